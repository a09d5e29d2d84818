"""The RPN: heads of every kind, and the choice of proposals against an image-by-image loop."""

import pytest
import torch

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling import registry
from maskrcnn_lib.modeling.box_coder import BoxCoder
from maskrcnn_lib.modeling.rpn.anchor_generator import flatten_anchors
from maskrcnn_lib.modeling.rpn.inference import select_proposals

CODER = BoxCoder((1.0, 1.0, 1.0, 1.0))
IMAGE_SIZES = [(90, 120), (60, 128)]
SETTINGS = {
    "box_coder": CODER,
    "pre_nms_top_n": 60,
    "post_nms_top_n": 25,
    "max_proposals": 40,
    "nms_threshold": 0.5,
    "min_size": 4.0,
}


def random_levels(seed=0, counts=(300, 75, 20)):
    """Anchors, objectness and offsets of three levels for two images."""
    generator = torch.Generator().manual_seed(seed)
    anchors, objectness, offsets = [], [], []
    for level, count in enumerate(counts):
        corner = torch.rand(count, 2, generator=generator) * 120 - 10
        size = 16 * 2**level * (0.5 + torch.rand(count, 2, generator=generator))
        anchors.append(torch.cat((corner, corner + size), dim=1))
        objectness.append(torch.randn(2, count, generator=generator))
        offsets.append(0.3 * torch.randn(2, count, 4, generator=generator))
    return anchors, objectness, offsets


def proposals_of_one_image(anchors, objectness, offsets, image, height, width):
    """The plain reading of the method: level by level, with torchvision's NMS."""
    from torchvision.ops import nms

    boxes, scores = [], []
    for level in range(len(anchors)):
        order = objectness[level][image].argsort(descending=True)[: SETTINGS["pre_nms_top_n"]]
        level_scores = objectness[level][image][order].sigmoid()
        level_boxes = CODER.decode(offsets[level][image][order], anchors[level][order])
        level_boxes[:, 0::2] = level_boxes[:, 0::2].clamp(0, width)
        level_boxes[:, 1::2] = level_boxes[:, 1::2].clamp(0, height)
        large = ((level_boxes[:, 2:] - level_boxes[:, :2]) >= SETTINGS["min_size"]).all(dim=1)
        level_boxes, level_scores = level_boxes[large], level_scores[large]
        keep = nms(level_boxes, level_scores, SETTINGS["nms_threshold"])
        keep = keep[: SETTINGS["post_nms_top_n"]]
        boxes.append(level_boxes[keep])
        scores.append(level_scores[keep])
    boxes, scores = torch.cat(boxes), torch.cat(scores)
    order = scores.argsort(descending=True)[: SETTINGS["max_proposals"]]
    return boxes[order], scores[order]


def test_selection_equals_an_image_by_image_loop():
    anchors, objectness, offsets = random_levels()
    proposals = select_proposals(
        anchors, objectness, offsets, torch.tensor(IMAGE_SIZES), **SETTINGS
    )
    for image, (height, width) in enumerate(IMAGE_SIZES):
        boxes, scores = proposals_of_one_image(anchors, objectness, offsets, image, height, width)
        valid = proposals.valid[image]
        assert int(valid.sum()) == len(boxes) > 10
        torch.testing.assert_close(proposals.boxes[image][valid], boxes)
        torch.testing.assert_close(proposals.scores[image][valid], scores)


def test_used_slots_come_first_and_the_others_hold_zeros():
    anchors, objectness, offsets = random_levels(seed=1)
    offsets[0][1] = offsets[1][1] = offsets[2][1] = 0.0
    for level, boxes in enumerate(anchors):  # only a few anchors reach into the second image
        offsets[level][1, 2:, 0] = 1000.0
        assert len(boxes) > 2
    proposals = select_proposals(
        anchors, objectness, offsets, torch.tensor(IMAGE_SIZES), **SETTINGS
    )
    used = int(proposals.valid[1].sum())
    assert used < int(proposals.valid[0].sum()) == proposals.valid.shape[1]
    assert proposals.valid[1, :used].all()
    assert not proposals.boxes[1, used:].any()
    assert not proposals.scores[1, used:].any()


def test_images_without_proposals_give_empty_slots():
    anchors, objectness, offsets = random_levels(seed=2)
    outside = [boxes + 1000 for boxes in anchors]
    proposals = select_proposals(
        outside, objectness, offsets, torch.tensor(IMAGE_SIZES), **SETTINGS
    )
    assert proposals.boxes.shape == (2, 0, 4)
    assert proposals.valid.shape == (2, 0)


def test_empty_boxes_are_dropped_even_without_a_least_size():
    anchors = [torch.tensor([[-20.0, 10.0, -5.0, 30.0], [5.0, 5.0, 25.0, 25.0]])]
    settings = {**SETTINGS, "min_size": 0.0}
    proposals = select_proposals(
        anchors,
        [torch.tensor([[3.0, 1.0]])],
        [torch.zeros(1, 2, 4)],
        torch.tensor([(60, 60)]),
        **settings,
    )
    assert proposals.boxes.tolist() == [[[5.0, 5.0, 25.0, 25.0]]]


def test_proposals_below_the_least_objectness_are_dropped():
    anchors = [torch.tensor([[0.0, 0.0, 20.0, 20.0], [30.0, 30.0, 50.0, 50.0]])]
    proposals = select_proposals(
        anchors,
        [torch.tensor([[1.0, -1.0]])],  # 0.73 and 0.27
        [torch.zeros(1, 2, 4)],
        torch.tensor([(60, 60)]),
        **SETTINGS,
        score_threshold=0.5,
    )
    assert proposals.boxes.tolist() == [[[0.0, 0.0, 20.0, 20.0]]]


def test_low_precision_head_outputs_are_decoded_in_float32():
    anchors, objectness, offsets = random_levels(seed=3)
    low = [[level.bfloat16() for level in levels] for levels in (objectness, offsets)]
    rounded = [[level.float() for level in levels] for levels in low]
    sizes = torch.tensor(IMAGE_SIZES)
    ours = select_proposals(anchors, *low, sizes, **SETTINGS)
    expected = select_proposals(anchors, *rounded, sizes, **SETTINGS)
    assert ours.boxes.dtype == ours.scores.dtype == torch.float32
    torch.testing.assert_close(ours.boxes, expected.boxes)


@pytest.mark.parametrize(
    ("name", "in_channels"),
    [("torchvision/maskrcnn_resnet50_fpn", 256), ("d2go/mask_rcnn_fbnetv3a_C4", 112)],
)
def test_every_head_gives_one_logit_and_four_offsets_per_anchor(name, in_channels):
    cfg = get_cfg(name)
    head = registry.RPN_HEADS[cfg.MODEL.RPN.RPN_HEAD](cfg, in_channels, 7)
    features = [torch.randn(2, in_channels, *size) for size in [(12, 9), (6, 5), (1, 1)]]
    objectness, offsets = head(features)
    assert [level.shape for level in objectness] == [(2, 7, 12, 9), (2, 7, 6, 5), (2, 7, 1, 1)]
    assert [level.shape for level in offsets] == [(2, 28, 12, 9), (2, 28, 6, 5), (2, 28, 1, 1)]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_head_outputs_are_flattened_by_row_column_anchor(memory_format):
    output = torch.arange(2 * 6 * 2 * 3.0).view(2, 6, 2, 3).contiguous(memory_format=memory_format)
    flat = flatten_anchors(output, 2)  # 3 anchors of 2 values
    assert flat.shape == (2, 18, 2)
    row, column, anchor = 1, 2, 1
    index = (row * 3 + column) * 3 + anchor
    torch.testing.assert_close(flat[1, index], output[1, 2 * anchor : 2 * anchor + 2, row, column])
