"""Overlap, suppression, filtering and joining of BoxLists against numpy and torchvision."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.boxlist_ops import (
    boxlist_iou,
    boxlist_nms,
    cat_boxlist,
    pairwise_iou,
    remove_small_boxes,
)
from maskrcnn_lib.structures.keypoint import PersonKeypoints
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask


def random_boxes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=generator) * torch.tensor([200.0, 100.0])
    boxes = torch.cat((corners.amin(1), corners.amax(1)), dim=1)
    result = BoxList(boxes, (200, 100))
    result.add_field("scores", torch.rand(count, generator=generator))
    return result


def test_iou_agrees_with_float64():
    first, second = random_boxes(40, 0), random_boxes(30, 1)
    a, b = first.bbox.double().numpy()[:, None], second.bbox.double().numpy()[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    overlap = sides.clip(0).prod(-1)
    areas = [np.prod(x[..., 2:] - x[..., :2], axis=-1) for x in (a, b)]
    expected = overlap / (areas[0] + areas[1] - overlap)
    # coordinates below 200 in float32, areas below 2e4: relative error of a few 2^-24 * 200 / side
    np.testing.assert_allclose(boxlist_iou(first, second.convert("xywh")), expected, atol=1e-4)


def test_iou_by_hand():
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 20, 20]])
    expected = [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]]
    torch.testing.assert_close(pairwise_iou(boxes, boxes), torch.tensor(expected))


def test_iou_takes_leading_dimensions():
    boxes = torch.stack([random_boxes(6, seed).bbox for seed in range(3)])
    assert torch.equal(pairwise_iou(boxes, boxes)[1], pairwise_iou(boxes[1], boxes[1]))


def test_iou_of_different_images_is_refused():
    with pytest.raises(ValueError, match="one image"):
        boxlist_iou(random_boxes(2, 0), random_boxes(2, 0).resize((20, 20)))


@pytest.mark.parametrize("mode", ["xyxy", "xywh"])
def test_nms_agrees_with_torchvision_and_sorts_by_score(mode):
    from torchvision.ops import nms

    boxes = random_boxes(200, 2)
    keep = nms(boxes.bbox, boxes.get_field("scores"), 0.4)
    kept = boxlist_nms(boxes.convert(mode), 0.4)
    assert kept.mode == mode
    assert torch.equal(kept.get_field("scores"), boxes.get_field("scores")[keep])
    best = boxlist_nms(boxes, 0.4, max_proposals=5)
    assert torch.equal(best.bbox, boxes.bbox[keep[:5]])


def test_nms_with_threshold_zero_only_sorts_and_limits():
    boxes = random_boxes(20, 3)
    boxes.add_field("objectness", boxes.get_field("scores"))
    kept = boxlist_nms(boxes, 0, max_proposals=7, score_field="objectness")
    expected = boxes.get_field("scores").sort(descending=True).values[:7]
    assert torch.equal(kept.get_field("scores"), expected)


def test_remove_small_boxes_keeps_boxes_of_exactly_the_size():
    boxes = BoxList([[0, 0, 5, 5], [0, 0, 4.9, 9], [0, 0, 9, 4.9]], (10, 10))
    assert remove_small_boxes(boxes, 5).bbox.tolist() == [[0, 0, 5, 5]]


def full_boxes(count, seed):
    boxes = random_boxes(count, seed)
    triangles = [[[float(i), 0, 50, 60, 90, float(i)]] for i in range(count)]
    boxes.add_field("masks", SegmentationMask(triangles, boxes.size))
    boxes.add_field("bitmaps", SegmentationMask(triangles, boxes.size, mode="mask"))
    keypoints = PersonKeypoints(torch.rand(count, 17, 3), boxes.size)
    keypoints.add_field("logits", torch.rand(count, 17))
    boxes.add_field("keypoints", keypoints)
    boxes.add_field("names", [f"{seed}/{i}" for i in range(count)])
    boxes.add_field("array", np.arange(count))
    return boxes


@settings(max_examples=20, deadline=None, derandomize=True)
@given(count=st.integers(0, 6), cut=st.integers(0, 6))
def test_split_and_join_is_identity_for_all_kinds_of_fields(count, cut):
    whole = full_boxes(count, 5)
    joined = cat_boxlist([whole[:cut], whole[cut:]])
    assert torch.equal(joined.bbox, whole.bbox)
    assert joined.fields() == whole.fields()
    assert torch.equal(joined.get_field("scores"), whole.get_field("scores"))
    assert joined.get_field("names") == whole.get_field("names")
    assert joined.get_field("array").tolist() == whole.get_field("array").tolist()
    for name in ("masks", "bitmaps"):
        masks, expected = joined.get_field(name), whole.get_field(name)
        assert masks.mode == expected.mode
        assert torch.equal(masks.get_mask_tensor(), expected.get_mask_tensor())
    keypoints, expected = joined.get_field("keypoints"), whole.get_field("keypoints")
    assert isinstance(keypoints, PersonKeypoints)
    assert torch.equal(keypoints.keypoints, expected.keypoints)
    assert torch.equal(keypoints.get_field("logits"), expected.get_field("logits"))


def test_joining_different_kinds_is_refused():
    boxes = random_boxes(2, 0)
    with pytest.raises(ValueError, match="no BoxList"):
        cat_boxlist([])
    with pytest.raises(ValueError, match="mode"):
        cat_boxlist([boxes, boxes.convert("xywh")])
    with pytest.raises(ValueError, match="size"):
        cat_boxlist([boxes, boxes.resize((5, 5))])
    with pytest.raises(ValueError, match="same fields"):
        cat_boxlist([boxes, boxes.copy_with_fields([])])
    other = boxes.copy_with_fields([])
    other.add_field("scores", [1, 2])
    with pytest.raises(TypeError, match="scores"):
        cat_boxlist([boxes, other])
