"""The pooler: which pyramid level serves a region, and the dialects' sampling."""

import pytest
import torch

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.poolers import (
    LevelMapper,
    Pooler,
    boxes_to_rois,
    build_pooler,
    make_pooler,
)
from maskrcnn_lib.structures.bounding_box import BoxList

SCALES = (1 / 4, 1 / 8, 1 / 16, 1 / 32)


def numbered_levels(size=512):
    """Feature maps that hold the number of their level, 2 to 6."""
    return [torch.full((1, 1, size >> k, size >> k), float(k)) for k in range(2, 7)]


# floor(4 + log2(sqrt(width * height) / 224)) by hand, within 2..5.
@pytest.mark.parametrize(
    ("width", "height", "level"),
    [
        (10, 10, 2),
        (111.9, 111.9, 2),
        (112, 112, 3),
        (56, 224, 3),
        (223.9, 223.9, 3),
        (224, 224, 4),
        (112, 447.9, 3),
        (447.9, 447.9, 4),
        (448, 448, 5),
        (500, 500, 5),
        (0, 0, 2),
    ],
)
def test_level_of_a_region_follows_from_its_area(width, height, level):
    rois = torch.tensor([[0.0, 4.0, 4.0, 4.0 + width, 4.0 + height]])
    pooled = Pooler((2, 2), SCALES, 2)(numbered_levels(), rois)
    torch.testing.assert_close(pooled, torch.full((1, 1, 2, 2), float(level)))


def test_level_is_chosen_before_the_end_offset_is_added():
    # 112 pixels choose level 3; the closed-pixel box that is sampled is 111 wide.
    rois = torch.tensor([[0.0, 4.0, 4.0, 116.0, 116.0]])
    pooled = Pooler((2, 2), SCALES, 2, box_end_offset=-1.0)(numbered_levels(), rois)
    torch.testing.assert_close(pooled, torch.full((1, 1, 2, 2), 3.0))


@pytest.mark.parametrize(
    ("aligned", "end_offset", "expected"), [(False, 0.0, 6.0), (True, 0.0, 5.5), (False, -1.0, 5.5)]
)
def test_sampling_follows_the_dialect(aligned, end_offset, expected):
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)  # value = column
    rois = torch.tensor([[0.0, 2.0, 2.0, 10.0, 10.0]])
    pooled = Pooler((1, 1), (1.0,), 4, aligned=aligned, box_end_offset=end_offset)([ramp], rois)
    # The mean column of a box from 2 to 10 is 6 in coordinates whose origin is a pixel's centre,
    # 5.5 in those whose origin is the image's corner; without its last pixel it is 5.5, too.
    assert float(pooled) == pytest.approx(expected, abs=1e-5)


def test_regions_keep_their_order_and_find_their_image():
    levels = [torch.tensor([1.0, 2.0])[:, None, None, None] * level for level in numbered_levels()]
    boxes = torch.tensor(
        [[[0.0, 0.0, 300.0, 300.0], [0.0, 0.0, 20.0, 20.0]], [[0.0, 0.0, 20.0, 20.0]] * 2]
    )
    rois = boxes_to_rois(boxes)
    assert rois[:, 0].tolist() == [0.0, 0.0, 1.0, 1.0]
    pooled = Pooler((1, 1), SCALES, 2)(levels, rois).flatten()
    torch.testing.assert_close(pooled, torch.tensor([4.0, 2.0, 4.0, 4.0]))


def test_no_regions_give_an_empty_result():
    pooled = Pooler((7, 7), SCALES, 2)(numbered_levels(), torch.zeros(0, 5))
    assert pooled.shape == (0, 1, 7, 7)


@pytest.mark.parametrize(
    ("name", "aligned", "end_offset", "resolution", "ratio"),
    [
        ("e2e_mask_rcnn_R_50_FPN_1x", False, -1.0, 7, 2),
        ("torchvision/maskrcnn_resnet50_fpn", False, 0.0, 7, 2),
        ("d2go/mask_rcnn_fbnetv3a_C4", True, 0.0, 6, 0),
    ],
)
def test_config_decides_how_the_box_head_pools(name, aligned, end_offset, resolution, ratio):
    pooler = build_pooler(get_cfg(name), "ROI_BOX_HEAD")
    assert (pooler.aligned, pooler.box_end_offset) == (aligned, end_offset)
    assert (pooler.output_size, pooler.sampling_ratio) == ((resolution, resolution), ratio)


def test_boxes_of_each_image_are_pooled_as_regions_are():
    levels = [torch.tensor([1.0, 2.0])[:, None, None, None] * level for level in numbered_levels()]
    images = [
        BoxList(torch.tensor([[0.0, 0.0, 300.0, 300.0], [0.0, 0.0, 20.0, 20.0]]), (512, 512)),
        BoxList(torch.zeros(0, 4), (512, 512)),
        BoxList(torch.tensor([[0.0, 0.0, 20.0, 20.0]]), (512, 512), mode="xywh"),
    ]
    levels = [torch.cat([level, level[:1] * 3]) for level in levels]
    pooled = make_pooler(get_cfg("e2e_mask_rcnn_R_50_FPN_1x"), "ROI_BOX_HEAD")(levels, images)
    torch.testing.assert_close(pooled[:, 0, 0, 0], torch.tensor([4.0, 2.0, 6.0]))


def test_level_mapper_agrees_with_torchvision():
    from torchvision.ops.poolers import LevelMapper as Peer

    corners = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)) * 300
    sizes = torch.rand(200, 2, generator=torch.Generator().manual_seed(1)) * 700
    boxes = torch.cat([corners, corners + sizes], dim=1)
    parts = [BoxList(boxes[:120], (1000, 1000)), BoxList(boxes[120:], (1000, 1000))]
    expected = Peer(2, 5)([boxes[:120], boxes[120:]])
    ours = LevelMapper(2, 5)(parts)
    assert ours.dtype == torch.int64
    assert torch.equal(ours, expected)
    assert ours.unique().tolist() == [0, 1, 2, 3]
