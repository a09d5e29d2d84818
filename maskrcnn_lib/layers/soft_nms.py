"""Soft-NMS: a box that overlaps a better one of its group loses score instead of being dropped.

Bodla et al., "Soft-NMS -- Improving Object Detection With One Line of Code"
(https://arxiv.org/abs/1704.04503), section 3. The box with the highest score is taken; the scores
of the others of its group then decay with their intersection over union with it:

    linear    score * (1 - iou)                 where iou is above a threshold
    gaussian  score * exp(-iou**2 / sigma)      everywhere
    hard      dropped                           where iou is above a threshold: plain NMS

and so on until enough are taken or no score is high enough.
"""

import torch
from torch import Tensor

from maskrcnn_lib.layers._library import on_load, ops_available
from maskrcnn_lib.layers.nms import check_box_arguments, check_box_values

METHODS = ("hard", "linear", "gaussian")  # the kernels know them by their place


def soft_nms_fixed(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    *,
    method: str,
    max_output: int,
    iou_threshold: float = 0.5,
    sigma: float = 0.5,
    min_score: float = 0.0001,
) -> tuple[Tensor, Tensor, Tensor]:
    """Soft-NMS for each row of a batch, with outputs of fixed size; no gradient.

    Nothing waits for the device, as in ``batched_nms_fixed``. Arithmetic is float32, or float64
    where an input is.

    Args:
        boxes: (B, N, 4) floating point, xyxy.
        scores: (B, N) floating point, not negative; an entry with score -inf (or NaN) is padding.
        groups: (B, N) int64; boxes of different groups do not touch each other's scores.
        method: "linear", "gaussian" or "hard".
        max_output: M, the most boxes to take in a row.
        iou_threshold: in [0, 1], of "linear" and "hard".
        sigma: above 0, of "gaussian".
        min_score: a box whose score falls below is not taken.

    Returns:
        indices: (B, M) int64 into the row, by descending decayed score, ties by index; 0 in unused
            places.
        scores: (B, M) decayed scores, dtype of ``scores``; 0 in unused places.
        counts: (B,) int64, number of used places.

    Raises:
        ValueError, TypeError: as ``nms``; or a method or number is not one of the above.
    """
    check_box_arguments(boxes, scores, groups, iou_threshold, rows=True)
    if method not in METHODS:
        raise ValueError(f"method {method!r} is unknown; choose one of {list(METHODS)}")
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, but is {sigma}")
    if max_output < 0:
        raise ValueError(f"max_output must not be negative, but is {max_output}")
    check_box_values(boxes, scores, padded=True)
    rule = (METHODS.index(method), iou_threshold, sigma, min_score, max_output)
    if boxes.device.type in ("cpu", "cuda") and ops_available(boxes.device):
        return torch.ops.maskrcnn.soft_nms_fixed(boxes, scores, groups, *rule)
    return soft_nms_reference(boxes, scores, groups, *rule)


def soft_nms_reference(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    method: int,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    max_output: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same in plain PyTorch, one box of all rows at a time; method: place in ``METHODS``."""
    wide = torch.float64 if torch.float64 in (boxes.dtype, scores.dtype) else torch.float32
    usable = boxes.isfinite().all(dim=-1) & (scores > -torch.inf)
    remaining = scores.to(wide).masked_fill(~usable, -torch.inf)
    boxes = boxes.to(wide)
    indices = groups.new_zeros(len(boxes), max_output)
    taken_scores = remaining.new_zeros(len(boxes), max_output)
    counts = groups.new_zeros(len(boxes))
    for place in range(min(max_output, boxes.shape[1])):
        best_score, best = remaining.max(dim=1, keepdim=True)  # (B, 1)
        taken = (best_score > -torch.inf) & (best_score >= min_score)
        indices[:, place : place + 1] = best.where(taken, 0)
        taken_scores[:, place : place + 1] = best_score.where(taken, 0)
        counts += taken[:, 0]
        iou = _iou_with(boxes.gather(1, best[:, :, None].expand(-1, -1, 4)), boxes)  # (B, N)
        if METHODS[method] == "gaussian":
            decay = torch.exp(-iou * iou / sigma)
        else:
            keep = 0.0 if METHODS[method] == "hard" else 1 - iou
            decay = torch.where(iou > iou_threshold, keep, 1.0)
        same = (groups == groups.gather(1, best)) & (remaining > -torch.inf)
        remaining = torch.where(same, remaining * decay, remaining)
        if METHODS[method] == "hard":
            remaining = remaining.masked_fill(same & (decay == 0), -torch.inf)
        remaining = remaining.scatter(1, best, -torch.inf)
    return indices, taken_scores.to(scores.dtype), counts


def _iou_with(box: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of box (B, 1, 4) with boxes (B, N, 4), 0 where they do not meet."""
    corner = torch.minimum(box[..., 2:], boxes[..., 2:]) - torch.maximum(
        box[..., :2], boxes[..., :2]
    )
    intersection = corner.clamp(min=0).prod(dim=-1)
    areas = [(b[..., 2:] - b[..., :2]).prod(dim=-1) for b in (box, boxes)]
    union = areas[0] + areas[1] - intersection
    return torch.where(intersection > 0, intersection / union, 0.0)


def _register_fake() -> None:
    def fake(
        boxes: Tensor, scores: Tensor, groups: Tensor, *rule: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        size = (boxes.shape[0], rule[-1])  # max_output
        return groups.new_empty(size), scores.new_empty(size), groups.new_empty(size[0])

    torch.library.register_fake("maskrcnn::soft_nms_fixed")(fake)


on_load(_register_fake)
