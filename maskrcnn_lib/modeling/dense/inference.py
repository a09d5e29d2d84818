"""From logits and offsets of all anchors to candidates (arXiv:1708.02002, section 4.1)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from maskrcnn_lib.modeling.box_coder import BoxCoder, clip_boxes
from maskrcnn_lib.modeling.outputs import pick
from maskrcnn_lib.modeling.suppression import Candidates


def find_dense_candidates(
    anchors: Sequence[Tensor],
    logits: Sequence[Tensor],
    offsets: Sequence[Tensor],
    image_sizes: Tensor,
    *,
    box_coder: BoxCoder,
    pre_nms_top_n: int,
    score_threshold: float,
) -> Candidates:
    """Takes the best pairs of anchor and class of each level.

    All images and classes are worked on together; nothing waits for the device.

    Args:
        anchors: per level (A, 4), xyxy in pixels.
        logits: per level (N, A, K).
        offsets: per level (N, A, 4).
        image_sizes: (N, 2) heights and widths without padding, in pixels.
        box_coder: turns offsets into boxes.
        pre_nms_top_n: pairs that each level sends into NMS.
        score_threshold: a detection's score is above it.
    """
    levels = [
        best_of_level(*level, box_coder=box_coder, count=pre_nms_top_n)
        for level in zip(anchors, logits, offsets, strict=True)
    ]
    boxes, scores, labels = (torch.cat(parts, dim=1) for parts in zip(*levels, strict=True))
    scores = scores.masked_fill(scores <= score_threshold, -torch.inf)
    return Candidates(clip_boxes(boxes, image_sizes), scores, labels)


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
    rows = logits.amax(dim=2).topk(torch.sym_min(count, logits.shape[1]), dim=1).indices  # (N, a)
    pairs = pick(logits, rows).float().flatten(1)
    best, places = pairs.topk(torch.sym_min(count, pairs.shape[1]), dim=1)  # (N, C)
    rows = rows.gather(1, torch.div(places, classes, rounding_mode="floor"))
    boxes = box_coder.decode(pick(offsets, rows), anchors[rows])
    return Candidates(boxes, best.sigmoid(), places % classes + 1)
