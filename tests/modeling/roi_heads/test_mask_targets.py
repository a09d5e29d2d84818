"""What the mask head learns: targets against pycocotools and torchvision, and the loss."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from maskrcnn_lib.modeling.roi_heads.mask_head.loss import mask_loss
from maskrcnn_lib.modeling.roi_heads.mask_head.targets import mask_targets
from maskrcnn_lib.modeling.roi_heads.regions import Rows
from maskrcnn_lib.modeling.targets import batch_targets
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

SIZE = (100, 80)
POLYGONS = [
    [[[10.0, 10.0, 60.0, 15.0, 50.0, 60.0, 20.0, 55.0]]],
    [
        [[5.5, 5.5, 40.0, 8.0, 30.0, 40.0], [60.0, 50.0, 90.0, 52.0, 70.0, 75.0]],
        [[20.0, 30.0, 80.0, 30.0, 80.0, 70.0, 20.0, 70.0]],
    ],
]


def make_rows(valid=(True,) * 5):
    rois = torch.tensor(
        [
            [0, 12.0, 8.0, 55.5, 61.0],
            [1, 4.0, 4.0, 92.0, 78.0],
            [1, 18.25, 31.5, 78.0, 72.0],
            [1, 60.0, 60.0, 60.25, 60.5],  # narrower than a pixel
            [0, 70.0, 0.0, 99.0, 20.0],  # beside its object
        ]
    )
    matched = torch.tensor([0, 0, 1, 1, 0])
    labels = torch.ones(5, dtype=torch.int64)
    return Rows(rois, labels, matched, torch.tensor(valid), torch.arange(5))


def make_masks(mode="poly"):
    return [SegmentationMask(polygons, SIZE, mode) for polygons in POLYGONS]


def make_targets(masks):
    targets = []
    for of_image in masks:
        target = BoxList([[0, 0, 9, 9]] * len(of_image), of_image.size)
        target.add_field("labels", torch.ones(len(of_image), dtype=torch.int64))
        target.add_field("masks", of_image)
        targets.append(target)
    sizes = [(height, width) for width, height in (target.size for target in targets)]
    return batch_targets(targets, sizes, device=torch.device("cpu"), num_classes=2, with_masks=True)


@pytest.mark.parametrize("offset", [0.0, -1.0])
def test_polygons_are_rasterised_inside_the_region_as_pycocotools_does(offset):
    from pycocotools import mask as coco

    rows = make_rows()
    ours = mask_targets(
        make_targets(make_masks()), rows, 28, method="raster", box_end_offset=offset
    )
    for goal, (image, *box), which in zip(
        ours, rows.rois.tolist(), rows.matched.tolist(), strict=True
    ):
        x1, y1, x2, y2 = box
        width, height = max(x2 + offset - x1, 1), max(y2 + offset - y1, 1)
        moved = [
            ((np.array(p).reshape(-1, 2) - (x1, y1)) * (28 / width, 28 / height)).ravel().tolist()
            for p in POLYGONS[int(image)][which]
        ]
        expected = coco.decode(coco.merge(coco.frPyObjects(moved, 28, 28)))
        assert goal.tolist() == expected.tolist()
    assert ours[4].sum() == 0
    assert ours[3].mean() == 1


@pytest.mark.parametrize("mode", ["poly", "mask"])
def test_bitmaps_are_sampled_as_torchvision_does(mode):
    from torchvision.models.detection.roi_heads import project_masks_on_boxes

    rows = make_rows()
    ours = mask_targets(make_targets(make_masks(mode)), rows, 28, method="roi_align")
    for image, masks in enumerate(make_masks()):
        of_image = rows.rois[:, 0] == image
        boxes, matched = rows.rois[of_image, 1:], rows.matched[of_image]
        expected = project_masks_on_boxes(masks.get_mask_tensor(), boxes, matched, 28)
        # Of the region below a pixel the start and the size decide, which torchvision keeps too.
        torch.testing.assert_close(ours[of_image], expected, atol=1e-5, rtol=1e-5)


def test_bitmaps_give_nearly_the_same_as_polygons():
    rows = make_rows()
    polygons = mask_targets(make_targets(make_masks()), rows, 28, method="raster")
    bitmaps = mask_targets(make_targets(make_masks("mask")), rows, 28, method="raster")
    # They differ along the outline, by the rounding of the window to whole pixels.
    assert (polygons != bitmaps).float().mean() < 0.05
    assert set(bitmaps.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("method", ["raster", "roi_align"])
def test_rows_that_do_not_count_are_zero(method):
    rows = make_rows((True, False, True, False, False))._replace(
        matched=torch.tensor([0, 0, 1, 1, 0])
    )
    goal = mask_targets(make_targets(make_masks()), rows, 14, method=method)
    assert goal.flatten(1).any(dim=1).tolist() == [True, False, True, False, False]


def test_polygons_and_bitmaps_of_different_sizes_mix_in_a_batch():
    small = SegmentationMask([[[5.0, 5.0, 30.0, 5.0, 30.0, 30.0, 5.0, 30.0]]], (40, 50), "mask")
    none = SegmentationMask([], (30, 30))
    images = [make_masks("mask")[1], none, make_masks("poly")[0], small]
    rows = make_rows()._replace(
        rois=torch.tensor(
            [
                [0, 4.0, 4.0, 92.0, 78.0],
                [0, 18.0, 31.0, 78.0, 72.0],
                [2, 12.0, 8.0, 55.5, 61.0],
                [3, 2.0, 3.0, 36.0, 33.0],
                [1, 0.0, 0.0, 9.0, 9.0],
            ]
        ),
        matched=torch.tensor([0, 1, 0, 0, 0]),
        valid=torch.tensor([True] * 4 + [False]),
    )
    together = mask_targets(make_targets(images), rows, 28, method="raster")
    for row in range(4):
        image = int(rows.rois[row, 0])
        alone = Rows(*(field[row : row + 1].clone() for field in rows))
        alone.rois[:, 0] = 0
        expected = mask_targets(make_targets(images[image : image + 1]), alone, 28, method="raster")
        assert expected.any()
        assert together[row].tolist() == expected[0].tolist()
    assert not together[4].any()


def test_images_without_objects_give_no_targets():
    masks = [SegmentationMask([], SIZE), SegmentationMask([], SIZE)]
    rows = make_rows((False,) * 5)
    assert mask_targets(make_targets(masks), rows, 14, method="raster").sum() == 0


def test_the_loss_is_the_mean_over_pixels_and_counted_regions():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 7, 7, generator=generator, requires_grad=True)
    goal = (torch.rand(3, 7, 7, generator=generator) > 0.5).float()
    loss = mask_loss(logits, goal, torch.tensor([True, False, True]))
    expected = F.binary_cross_entropy_with_logits(logits[[0, 2]], goal[[0, 2]])
    torch.testing.assert_close(loss.total / loss.count, expected)
    loss.total.backward()
    assert logits.grad[1].abs().sum() == 0


def test_the_loss_without_regions_is_zero_with_a_gradient():
    logits = torch.randn(1, 7, 7, requires_grad=True)
    loss = mask_loss(logits, torch.zeros(1, 7, 7), torch.tensor([False]))
    loss.total.backward()
    assert loss.total == loss.count == 0
    assert logits.grad.abs().sum() == 0
