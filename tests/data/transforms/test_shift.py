"""A random shift moves pixels, boxes and masks alike, and fills with black."""

import numpy as np
import pytest
import torch

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.data.transforms import RandomShift, build_transforms
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

BLACK = (-3.0, -2.0, -1.0)
SIZE = (50, 40)
IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406])
IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225])


def scene(box):
    """Pixels that are 1 inside a box and black outside, and the box with its mask."""
    x1, y1, x2, y2 = box
    pixels = torch.tensor(BLACK)[:, None, None].repeat(1, SIZE[1], SIZE[0])
    pixels[:, y1:y2, x1:x2] = 1
    target = BoxList([box], SIZE)
    target.add_field("labels", torch.tensor([1]))
    outline = [[x1, y1, x2, y1, x2, y2, x1, y2]]
    target.add_field("masks", SegmentationMask([outline], SIZE))
    return pixels, target


@pytest.mark.parametrize("seed", range(8))
def test_box_and_mask_stay_around_their_pixels(seed):
    shift = RandomShift(probability=1, pixels=12, black=BLACK)
    pixels, target = shift(*scene((5, 8, 45, 30)), np.random.default_rng(seed))
    assert pixels.shape == (3, SIZE[1], SIZE[0]) and target.size == SIZE
    rows, columns = (pixels[0] == 1).nonzero(as_tuple=True)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert target.bbox[0].tolist() == [int(value) for value in seen]
    mask = target.get_field("masks").convert("mask").instances.masks[0].bool()
    torch.testing.assert_close(mask, pixels[0] == 1)
    # What came in is black, as what was there before.
    assert pixels[:, ~mask].T.unique(dim=0).tolist() == [list(BLACK)]


def test_moves_go_both_ways_as_far_as_asked_for():
    shift = RandomShift(probability=1, pixels=4, black=BLACK)
    rng = np.random.default_rng(0)
    moves = [shift(*scene((10, 10, 20, 20)), rng)[1].bbox[0, :2] - 10 for _ in range(200)]
    for axis in torch.stack(moves).T:
        assert sorted(set(axis.tolist())) == list(range(-4, 5))


def test_a_move_that_shows_no_object_is_not_made():
    shift = RandomShift(probability=1, pixels=39, black=BLACK)
    pixels, target = scene((0, 0, 1, 1))
    rng = np.random.default_rng(0)
    moved = [shift(pixels, target, rng)[1].bbox.tolist() for _ in range(30)]
    assert all(len(boxes) == 1 for boxes in moved)
    assert moved.count(target.bbox.tolist()) > 15


def test_an_image_smaller_than_the_move_keeps_a_pixel():
    shift = RandomShift(probability=1, pixels=100, black=BLACK)
    empty = BoxList([], (3, 2))
    for seed in range(10):
        pixels, _ = shift(torch.ones(3, 2, 3), empty, np.random.default_rng(seed))
        assert pixels.shape == (3, 2, 3) and (pixels == 1).any()


def test_config_asks_for_it_in_training_alone_and_knows_black():
    keys = ["INPUT.SHIFT.PROB", 1.0, "INPUT.MIN_SIZE_TRAIN", (40,), "INPUT.SHIFT.PIXELS", 6]
    cfg = get_cfg("mmdet/yolof_r50-c5_8xb8-1x_coco", keys)
    image, target = np.zeros((40, 50, 3), dtype=np.uint8), BoxList([[10, 10, 30, 30]], SIZE)
    rng = np.random.default_rng(1)
    moved, objects = build_transforms(cfg)(image, target, rng)
    assert objects.bbox.tolist() != target.bbox.tolist()
    # A black image stays one, whatever moves.
    black = torch.tensor([-103.53, -116.28, -123.675])
    torch.testing.assert_close(moved, black[:, None, None].expand_as(moved))
    assert build_transforms(cfg, is_train=False).shift is None
    # Statistics that the config leaves to the body's library.
    body = ["MODEL.BACKBONE.CONV_BODY", "torchvision/resnet18-FPN", "INPUT.TO_BGR255", False]
    body += ["INPUT.PIXEL_MEAN", [], "INPUT.PIXEL_STD", []]
    black = build_transforms(get_cfg(None, [*keys, *body])).shift.black
    torch.testing.assert_close(black, -IMAGENET_MEAN / IMAGENET_STD)
    assert build_transforms(get_cfg()).shift is None
