"""From class logits and box offsets of the proposals to candidates for detections."""

import torch
from torch import Tensor
from torch.nn import functional as F

from maskrcnn_lib.modeling.box_coder import BoxCoder, clip_boxes
from maskrcnn_lib.modeling.outputs import Proposals, host_may_wait, pick
from maskrcnn_lib.modeling.suppression import MAX_CANDIDATES, Candidates


def find_candidates(
    class_logits: Tensor,
    box_offsets: Tensor,
    proposals: Proposals,
    image_sizes: Tensor,
    *,
    box_coder: BoxCoder,
    score_threshold: float,
    min_size: float,
) -> Candidates:
    """Takes the pairs of proposal and class that score well.

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
        min_size: smallest width and height in pixels.
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
    # Not all(dim=-1): ONNX Runtime gets that wrong where there is no box.
    wide, high = (boxes[..., 2:] - boxes[..., :2] >= min_size).unbind(dim=-1)
    usable = wide & high
    return Candidates(boxes, scores.masked_fill(~usable, -torch.inf), labels)


def _candidates(eligible: Tensor) -> int:
    """How many pairs of each image are looked at; eligible: (N, R, foreground) bool."""
    count, per_image, foreground = eligible.shape
    most = per_image * foreground
    if host_may_wait(eligible):
        most = eligible.sum(dim=(1, 2)).max().item() if count else 0
        torch._check(most >= 0)  # which a graph that is being traced cannot know
    return torch.sym_min(most, MAX_CANDIDATES)


def _decode_pairs(
    box_offsets: Tensor,
    boxes: Tensor,
    rows: Tensor,
    labels: Tensor,
    num_classes: int,
    box_coder: BoxCoder,
) -> Tensor:
    """Boxes (N, K, 4) of the pairs (row, label); see find_candidates for the rest."""
    count, per_image = boxes.shape[:2]
    regressors = box_offsets.shape[-1] // 4
    column = labels if regressors == num_classes else torch.full_like(labels, regressors - 1)
    offsets = box_offsets.reshape(count, per_image * regressors, 4)
    return box_coder.decode(pick(offsets, rows * regressors + column), pick(boxes, rows))
