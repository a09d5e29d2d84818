"""Non-maximum suppression: of boxes that overlap, only the one with the highest score stays.

The greedy algorithm of Felzenszwalb et al. 2010 (Object Detection with Discriminatively Trained
Part-Based Models). Boxes are visited by descending score, ties by index; a box is dropped when its
intersection over union with a kept box of the same group is greater than the threshold. Groups
(classes, pyramid levels) are compared as such, not by moving boxes apart, so coordinates lose no
precision. The kept indices are the same on every device.
"""

import torch
from torch import Tensor

from maskrcnn_lib.layers._checks import (
    require_floating,
    require_same_device,
    require_shape,
    require_tensor,
)
from maskrcnn_lib.layers._library import on_load, ops_available


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Returns the indices of the boxes that stay, by descending score, ties by index.

    Args:
        boxes: (N, 4) floating point, xyxy.
        scores: (N,) floating point.
        iou_threshold: in [0, 1]; a box that overlaps a kept one by more is dropped.

    Returns:
        (K,) int64.

    Raises:
        ValueError: a shape, a device or the threshold is wrong, or a box or score is NaN.
        TypeError: an argument is not a floating-point tensor.
    """
    check_box_arguments(boxes, scores, None, iou_threshold, rows=False)
    check_box_values(boxes, scores, padded=False)
    if _compiled(boxes):
        return torch.ops.maskrcnn.nms(boxes, scores, iou_threshold)
    return _keep_reference(boxes, scores, None, iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """As ``nms``, but only boxes of the same group suppress each other.

    Args:
        boxes: (N, 4) floating point, xyxy.
        scores: (N,) floating point.
        groups: (N,) int64, any values: the class or level of each box.
        iou_threshold: in [0, 1].

    Returns:
        (K,) int64, by descending score over all groups.

    Raises:
        ValueError, TypeError: as ``nms``.
    """
    check_box_arguments(boxes, scores, groups, iou_threshold, rows=False)
    check_box_values(boxes, scores, padded=False)
    if _compiled(boxes):
        return torch.ops.maskrcnn.batched_nms(boxes, scores, groups, iou_threshold)
    return _keep_reference(boxes, scores, groups, iou_threshold)


def batched_nms_fixed(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    iou_threshold: float,
    max_output: int,
    max_per_group: int = 0,
) -> tuple[Tensor, Tensor]:
    """As ``batched_nms`` for each row of a batch, with outputs of fixed size.

    Nothing waits for the device: where boxes are on a GPU, their values are not checked, and a box
    that is not finite is not kept.

    Args:
        boxes: (B, N, 4) floating point, xyxy.
        scores: (B, N) floating point; an entry with score -inf (or NaN) is padding.
        groups: (B, N) int64.
        iou_threshold: in [0, 1].
        max_output: M, the most boxes to keep in a row.
        max_per_group: the most boxes to keep of one group of a row; 0 for any number.

    Returns:
        indices: (B, M) int64 into the row, by descending score, 0 in unused places.
        counts: (B,) int64, number of used places.

    Raises:
        ValueError, TypeError: as ``nms``.
    """
    check_box_arguments(boxes, scores, groups, iou_threshold, rows=True)
    for name, value in (("max_output", max_output), ("max_per_group", max_per_group)):
        if value < 0:
            raise ValueError(f"{name} must not be negative, but is {value}")
    check_box_values(boxes, scores, padded=True)
    arguments = (boxes, scores, groups, iou_threshold, max_output, max_per_group)
    if _compiled(boxes):
        return torch.ops.maskrcnn.batched_nms_fixed(*arguments)
    return _fixed_reference(*arguments)


def _compiled(boxes: Tensor) -> bool:
    return boxes.device.type in ("cpu", "cuda") and ops_available(boxes.device)


def check_box_arguments(
    boxes: Tensor, scores: Tensor, groups: Tensor | None, iou_threshold: float, *, rows: bool
) -> None:
    """Raises TypeError or ValueError where metadata or threshold are wrong; rows: as in batches."""
    require_floating("boxes", boxes)
    require_floating("scores", scores)
    require_shape("boxes", boxes, (None, None, 4) if rows else (None, 4), "([B,] N, 4)")
    require_shape("scores", scores, tuple(boxes.shape[:-1]), "of boxes without the last dimension")
    require_same_device("scores", scores, "boxes", boxes)
    if groups is not None:
        require_tensor("groups", groups)
        require_shape("groups", groups, tuple(scores.shape), "of scores")
        require_same_device("groups", groups, "boxes", boxes)
        if groups.dtype != torch.int64:
            raise TypeError(f"groups must be int64, but is {groups.dtype}")
    if not 0.0 <= iou_threshold <= 1.0:
        raise ValueError(f"iou_threshold must lie in [0, 1], but is {iou_threshold}")


def check_box_values(boxes: Tensor, scores: Tensor, *, padded: bool) -> None:
    """Raises ValueError that names a box or score which is not finite.

    On the CPU, where looking is cheap. Compiled programs rely on the operator's own check.
    """
    if boxes.device.type != "cpu" or torch.compiler.is_compiling():
        return
    wrong = ~boxes.isfinite().all(dim=-1)
    if padded:
        wrong &= scores > -torch.inf
    elif scores.isnan().any():
        raise ValueError(f"scores must not be NaN, but score {int(scores.isnan().nonzero()[0])} is")
    if wrong.any():
        index = tuple(wrong.nonzero()[0].tolist())
        raise ValueError(f"boxes must be finite, but box {index} is {boxes[index].tolist()}")


def _keep_reference(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None,
    iou_threshold: float,
    max_per_group: int = 0,
) -> Tensor:
    """The definition, one box after the other."""
    order = scores.argsort(descending=True, stable=True)
    x1, y1, x2, y2 = boxes[order].to(_precision(boxes)).unbind(dim=1)
    areas = (x2 - x1) * (y2 - y1)
    groups = torch.zeros_like(order) if groups is None else groups[order]
    alive = torch.ones_like(order, dtype=torch.bool)
    for i in range(len(order)):
        if not alive[i]:
            continue
        width = (torch.minimum(x2[i], x2) - torch.maximum(x1[i], x1)).clamp(min=0)
        height = (torch.minimum(y2[i], y2) - torch.maximum(y1[i], y1)).clamp(min=0)
        intersection = width * height
        iou = intersection / (areas[i] + areas - intersection)
        same_group = groups == groups[i]
        kept_of_group = int((alive & same_group)[: i + 1].sum())
        if kept_of_group == max_per_group:
            suppressed = same_group
        else:
            suppressed = same_group & (iou.double() > iou_threshold)
        suppressed[: i + 1] = False
        alive &= ~suppressed
    return order[alive]


def _fixed_reference(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    iou_threshold: float,
    max_output: int,
    max_per_group: int,
) -> tuple[Tensor, Tensor]:
    indices = groups.new_zeros((len(boxes), max_output))
    counts = groups.new_zeros(len(boxes))
    for row in range(len(boxes)):
        valid = (scores[row] > -torch.inf) & boxes[row].isfinite().all(dim=-1)
        places = valid.nonzero().squeeze(1)
        keep = _keep_reference(
            boxes[row, places],
            scores[row, places],
            groups[row, places],
            iou_threshold,
            max_per_group,
        )[:max_output]
        indices[row, : len(keep)] = places[keep]
        counts[row] = len(keep)
    return indices, counts


def _precision(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _register_fakes() -> None:
    def fake_nms(boxes: Tensor, scores: Tensor, *_: Tensor | float) -> Tensor:
        return scores.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)

    def fake_batched_nms_fixed(
        boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float, max_output: int, _: int
    ) -> tuple[Tensor, Tensor]:
        indices = scores.new_empty((boxes.shape[0], max_output), dtype=torch.int64)
        return indices, scores.new_empty(boxes.shape[0], dtype=torch.int64)

    torch.library.register_fake("maskrcnn::nms")(fake_nms)
    torch.library.register_fake("maskrcnn::batched_nms")(fake_nms)
    torch.library.register_fake("maskrcnn::batched_nms_fixed")(fake_batched_nms_fixed)


on_load(_register_fakes)
