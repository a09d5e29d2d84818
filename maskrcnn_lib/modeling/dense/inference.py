"""From class logits and offsets of all anchors to detections (arXiv:1708.02002, section 4.1)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from maskrcnn_lib.layers.nms import batched_nms_fixed
from maskrcnn_lib.modeling.box_coder import BoxCoder, clip_boxes
from maskrcnn_lib.modeling.outputs import Detections, drop_unused_slots


class Candidates(NamedTuple):
    """Pairs of anchor and class of N images, C per image.

    Attributes:
        logits: (N, C).
        labels: (N, C) int64, classes from 1.
        boxes: (N, C, 4) xyxy in pixels, not clipped.
    """

    logits: Tensor
    labels: Tensor
    boxes: Tensor


def select_dense_detections(
    anchors: Sequence[Tensor],
    logits: Sequence[Tensor],
    offsets: Sequence[Tensor],
    image_sizes: Tensor,
    *,
    box_coder: BoxCoder,
    pre_nms_top_n: int,
    score_threshold: float,
    nms_threshold: float,
    max_detections: int,
) -> Detections:
    """Takes the best pairs of anchor and class of each level and thins them out class by class.

    All images and classes are worked on together; nothing waits for the device.

    Args:
        anchors: per level (A, 4), xyxy in pixels.
        logits: per level (N, A, K).
        offsets: per level (N, A, 4).
        image_sizes: (N, 2) heights and widths without padding, in pixels.
        box_coder: turns offsets into boxes.
        pre_nms_top_n: pairs that each level sends into NMS.
        score_threshold: a detection's score is above it.
        nms_threshold: of two detections of a class that overlap more, the better one stays.
        max_detections: detections that an image keeps; 0 for all.
    """
    levels = [
        best_of_level(*level, box_coder=box_coder, count=pre_nms_top_n)
        for level in zip(anchors, logits, offsets, strict=True)
    ]
    candidates = Candidates(*(torch.cat(parts, dim=1) for parts in zip(*levels, strict=True)))
    scores = candidates.logits.sigmoid()  # (N, C)
    boxes = clip_boxes(candidates.boxes, image_sizes)
    chosen, counts = batched_nms_fixed(
        boxes,
        scores.masked_fill(scores <= score_threshold, -torch.inf),
        candidates.labels,
        nms_threshold,
        max_output=min(max_detections or scores.shape[1], scores.shape[1]),
    )
    valid = torch.arange(chosen.shape[1], device=boxes.device) < counts[:, None]
    boxes = boxes.gather(1, chosen[:, :, None].expand(-1, -1, 4))
    return drop_unused_slots(
        Detections(
            boxes.masked_fill(~valid[:, :, None], 0.0),
            scores.gather(1, chosen).masked_fill(~valid, 0.0),
            candidates.labels.gather(1, chosen).masked_fill(~valid, 0),
            valid,
        )
    )


def best_of_level(
    anchors: Tensor, logits: Tensor, offsets: Tensor, *, box_coder: BoxCoder, count: int
) -> Candidates:
    """The pairs of anchor and class with the highest logits of one level, decoded.

    At most ``count`` anchors can take part in the ``count`` best pairs: those with the highest
    best class. So the pairs of these alone are sorted, instead of some ten millions.

    Args:
        anchors: (A, 4) xyxy in pixels.
        logits: (N, A, K).
        offsets: (N, A, 4).
        box_coder: turns offsets into boxes.
        count: pairs to take of each image; all, if there are fewer.
    """
    classes = logits.shape[2]
    rows = logits.amax(dim=2).topk(min(count, logits.shape[1]), dim=1).indices  # (N, a)
    pairs = logits.gather(1, rows[:, :, None].expand(-1, -1, classes)).float().flatten(1)
    best, places = pairs.topk(min(count, pairs.shape[1]), dim=1)  # (N, C)
    rows = rows.gather(1, torch.div(places, classes, rounding_mode="floor"))
    chosen = offsets.gather(1, rows[:, :, None].expand(-1, -1, 4))
    return Candidates(best, places % classes + 1, box_coder.decode(chosen, anchors[rows]))
