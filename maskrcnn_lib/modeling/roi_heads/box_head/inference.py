"""From class logits and box offsets of the proposals to detections."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from maskrcnn_lib.layers.nms import batched_nms_fixed
from maskrcnn_lib.layers.soft_nms import soft_nms_fixed
from maskrcnn_lib.modeling.box_coder import BoxCoder, clip_boxes
from maskrcnn_lib.modeling.outputs import (
    Detections,
    Proposals,
    drop_unused_slots,
    host_may_wait,
)

# Of the (proposal, class) pairs above the score threshold, at most this many of an image, the best
# ones, go into NMS. COCO models send some hundreds; the bound makes sizes fixed on a GPU, and keeps
# time and memory in hand when the threshold is near 0.
MAX_CANDIDATES = 8192


class SoftNMS(NamedTuple):
    """How scores of overlapping detections fall; see ``layers/soft_nms.py``.

    Attributes:
        method: "linear", "gaussian" or "hard".
        sigma: width of "gaussian".
        min_score: detections whose score falls below are dropped.
    """

    method: str
    sigma: float
    min_score: float


def select_detections(
    class_logits: Tensor,
    box_offsets: Tensor,
    proposals: Proposals,
    image_sizes: Tensor,
    *,
    box_coder: BoxCoder,
    score_threshold: float,
    nms_threshold: float,
    max_detections: int,
    min_size: float,
    soft_nms: SoftNMS | None = None,
) -> Detections:
    """Takes the pairs of proposal and class that score well and thins them out class by class.

    All images and classes are worked on together, and only candidates are decoded. On the CPU the
    number of candidates is that of the fullest image; elsewhere it is ``MAX_CANDIDATES``, so that
    nothing waits for the device.

    Args:
        class_logits: (N * R, C), class 0 is background.
        box_offsets: (N * R, C * 4), or (N * R, k * 4) whose last four serve all classes.
        proposals: the N x R proposals that the rows belong to.
        image_sizes: (N, 2) heights and widths without padding, in pixels.
        box_coder: turns offsets into boxes.
        score_threshold: a detection's score is above it.
        nms_threshold: of two detections of a class that overlap more, the better one stays.
        max_detections: detections that an image keeps; 0 for all.
        min_size: smallest width and height in pixels.
        soft_nms: lowers the weaker one's score instead of dropping it.
    """
    count, per_image = proposals.valid.shape
    num_classes = class_logits.shape[-1]
    foreground = num_classes - 1
    scores = F.softmax(class_logits.float(), dim=-1)[:, 1:].unflatten(0, (count, per_image))
    eligible = (scores > score_threshold) & proposals.valid[:, :, None]
    scores = scores.masked_fill(~eligible, -torch.inf).flatten(1)  # (N, R * foreground)
    scores, pairs = scores.topk(_candidates(eligible), dim=1)  # (N, K)

    rows = torch.div(pairs, foreground, rounding_mode="floor")
    labels = pairs % foreground + 1
    boxes = _decode_pairs(box_offsets, proposals.boxes, rows, labels, num_classes, box_coder)
    boxes = clip_boxes(boxes, image_sizes)
    usable = (boxes[..., 2:] - boxes[..., :2] >= min_size).all(dim=-1)
    scores = scores.masked_fill(~usable, -torch.inf)
    limit = min(max_detections or scores.shape[1], scores.shape[1])
    chosen, scores, counts = _suppress(boxes, scores, labels, nms_threshold, limit, soft_nms)
    valid = torch.arange(chosen.shape[1], device=boxes.device) < counts[:, None]
    boxes = boxes.gather(1, chosen[:, :, None].expand(-1, -1, 4))
    return drop_unused_slots(
        Detections(
            boxes.masked_fill(~valid[:, :, None], 0.0),
            scores.masked_fill(~valid, 0.0),
            labels.gather(1, chosen).masked_fill(~valid, 0),
            valid,
        )
    )


def _suppress(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    threshold: float,
    limit: int,
    soft_nms: SoftNMS | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Indices (N, limit) of what stays, by descending score; their scores; and counts (N,)."""
    if soft_nms is not None:
        return soft_nms_fixed(
            boxes,
            scores,
            labels,
            max_output=limit,
            iou_threshold=threshold,
            **soft_nms._asdict(),
        )
    chosen, counts = batched_nms_fixed(boxes, scores, labels, threshold, max_output=limit)
    return chosen, scores.gather(1, chosen), counts


def _candidates(eligible: Tensor) -> int:
    """How many pairs of each image are looked at; eligible: (N, R, foreground) bool."""
    count, per_image, foreground = eligible.shape
    most = per_image * foreground
    if host_may_wait(eligible):
        most = int(eligible.sum(dim=(1, 2)).max()) if count else 0
    return min(most, MAX_CANDIDATES)


def _decode_pairs(
    box_offsets: Tensor,
    boxes: Tensor,
    rows: Tensor,
    labels: Tensor,
    num_classes: int,
    box_coder: BoxCoder,
) -> Tensor:
    """Boxes (N, K, 4) of the pairs (row, label); see select_detections for the rest."""
    count, per_image = boxes.shape[:2]
    regressors = box_offsets.shape[-1] // 4
    column = labels if regressors == num_classes else torch.full_like(labels, regressors - 1)
    offsets = box_offsets.reshape(count, per_image * regressors, 4)
    index = (rows * regressors + column)[:, :, None].expand(-1, -1, 4)
    references = boxes.gather(1, rows[:, :, None].expand(-1, -1, 4))
    return box_coder.decode(offsets.gather(1, index), references)
