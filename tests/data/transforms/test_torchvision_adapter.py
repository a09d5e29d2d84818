"""Transforms of torchvision v2 act on our images and objects as their own authors meant them."""

import random

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from maskrcnn_lib.data.transforms import RandomFlip, TorchvisionTransform
from maskrcnn_lib.data.transforms.crop import visible_boxes
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.keypoint import PersonKeypoints
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
POLYGONS = [
    [[5, 5, 30, 5, 30, 40, 5, 40]],
    [[40.5, 20.25, 70, 30, 50, 55]],
    [[1, 50, 9, 50, 9, 59]],
]


def target_of(mode="poly", fields=("labels", "masks", "note")):
    masks = SegmentationMask(POLYGONS, (80, 60), mode)
    target = BoxList(visible_boxes(masks), (80, 60))
    target.add_field("labels", torch.tensor([7, 8, 9]))
    target.add_field("masks", masks)
    target.add_field("note", ["a", "b", "c"])
    return target.copy_with_fields(fields)


def apply(transform, target, seed=0):
    return TorchvisionTransform(transform)(IMAGE, target, np.random.default_rng(seed))


@pytest.mark.parametrize("mode", ["poly", "mask"])
@pytest.mark.parametrize(
    ("transform", "step"),
    [
        (v2.RandomHorizontalFlip(1.0), RandomFlip(horizontal=1.0)),
        (v2.RandomVerticalFlip(1.0), RandomFlip(horizontal=0.0, vertical=1.0)),
    ],
)
def test_flips_of_both_libraries_agree(mode, transform, step):
    target = target_of("mask").copy_with_fields(["labels", "masks"])
    target.add_field("masks", target.get_field("masks").convert(mode))
    target.bbox = visible_boxes(target.get_field("masks"))
    image, objects = apply(transform, target)
    expected_image, expected = step(IMAGE, target, np.random.default_rng(0))
    np.testing.assert_array_equal(image, expected_image)
    torch.testing.assert_close(objects.bbox, expected.bbox)
    assert objects.get_field("masks").mode == mode
    assert torch.equal(
        objects.get_field("masks").get_mask_tensor(), expected.get_field("masks").get_mask_tensor()
    )


def test_colour_transform_leaves_polygons_and_boxes_exactly():
    target = target_of()
    image, objects = apply(v2.RandomPhotometricDistort(p=1.0), target)
    assert not np.array_equal(image, IMAGE)
    assert torch.equal(objects.bbox, target.bbox)
    assert objects.get_field("masks").instances.polygons[1].polygons[0].tolist() == POLYGONS[1][0]


def test_crop_removes_objects_with_all_their_fields():
    image, objects = apply(
        v2.Compose([v2.RandomCrop((60, 34), pad_if_needed=False), v2.SanitizeBoundingBoxes()]),
        target_of(),
    )
    assert image.shape == (60, 34, 3) and objects.size == (34, 60)
    masks = objects.get_field("masks").get_mask_tensor()
    assert len(objects) < 3 and len(masks) == len(objects) and masks.any(dim=2).any(dim=1).all()
    names = {7: "a", 8: "b", 9: "c"}
    assert objects.get_field("note") == [names[n] for n in objects.get_field("labels").tolist()]
    torch.testing.assert_close(objects.bbox, visible_boxes(objects.get_field("masks")))


def test_boxes_of_a_rotation_surround_the_rotated_masks():
    _, objects = apply(v2.RandomRotation((30, 30), expand=True), target_of())
    masks = objects.get_field("masks").get_mask_tensor()
    assert masks.shape[1:] == (objects.size[1], objects.size[0])
    torch.testing.assert_close(objects.bbox, visible_boxes(objects.get_field("masks")))
    # a rotation keeps areas, up to the nearest-neighbour sampling of outlines
    before = target_of().get_field("masks").get_mask_tensor().flatten(1).sum(1)
    assert torch.allclose(masks.flatten(1).sum(1).float(), before.float(), rtol=0.1)


def test_resize_scales_boxes_without_masks():
    target = target_of(fields=("labels",))
    image, objects = apply(v2.Resize((120, 160)), target)
    assert image.shape == (120, 160, 3)
    torch.testing.assert_close(objects.bbox, target.bbox * 2)


def test_keypoints_move_along_and_vanish_outside():
    target = target_of(fields=("labels",))
    points = torch.zeros(3, 17, 3)
    points[0, 0] = torch.tensor([10.0, 20, 2])
    points[1, 5] = torch.tensor([60.0, 30, 1])
    target.add_field("keypoints", PersonKeypoints(points, (80, 60)))
    _, objects = apply(v2.Lambda(lambda x: x), target)
    assert torch.equal(objects.get_field("keypoints").keypoints, points)
    _, objects = apply(v2.CenterCrop((60, 50)), target)  # columns 15 .. 65
    moved = objects.get_field("keypoints")
    assert isinstance(moved, PersonKeypoints) and moved.size == (50, 60)
    assert moved.keypoints[0, 0].tolist() == [0, 0, 0]  # was at column 10
    assert moved.keypoints[1, 5].tolist() == [45, 30, 1]


def test_images_without_objects_pass():
    image, objects = apply(v2.RandomZoomOut(p=1.0), target_of()[:0])
    assert len(objects) == 0 and objects.size == (image.shape[1], image.shape[0]) != (80, 60)


def test_randomness_comes_from_the_sample_alone():
    transform = v2.Compose([v2.RandomPhotometricDistort(), v2.RandomIoUCrop()])
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    first, objects = apply(transform, target_of(), seed=3)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    np.testing.assert_array_equal(np.random.get_state()[1], states[2])
    torch.manual_seed(99)
    again, same = apply(transform, target_of(), seed=3)
    np.testing.assert_array_equal(first, again)
    assert torch.equal(objects.bbox, same.bbox)
    assert not np.array_equal(first, apply(transform, target_of(), seed=4)[0])


def test_transform_that_makes_floats_is_refused():
    with pytest.raises(ValueError, match="uint8"):
        apply(v2.ToDtype(torch.float32), target_of())


def test_proposals_stay_where_colours_change_and_are_not_left_behind():
    target = target_of()
    target.proposals = BoxList([[5, 5, 30, 40]], (80, 60))
    _, same = apply(v2.ColorJitter(0.5), target)
    assert same.proposals is target.proposals
    with pytest.raises(ValueError, match="cannot move loaded proposals"):
        apply(v2.RandomHorizontalFlip(1.0), target)
