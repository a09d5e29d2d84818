"""This library's operators in those of ONNX, where torch's have none that says the same.

ONNX's NonMaxSuppression takes a score per class and box, so that groups need not be moved apart, as
torchvision's operator wants it: float32, which is all that it knows, has no digits left for that.
"""

from collections.abc import Callable

import torch
from onnxscript import FLOAT, INT64
from onnxscript import opset18 as op

_LOWEST = -3.4028235e38  # float32's lowest number: above -inf, which means padding
_ALL = 2**63 - 1


ONNX_OPERATORS = ("maskrcnn::batched_nms_fixed",)
"""Names of the operators that this module writes itself."""


def translations() -> dict[Callable, Callable]:
    """What the ONNX exporter writes for an operator: ``custom_translation_table``."""
    return {torch.ops.maskrcnn.batched_nms_fixed.default: batched_nms_fixed}


def batched_nms_fixed(
    boxes: FLOAT,
    scores: FLOAT,
    groups: INT64,
    iou_threshold: float,
    max_output: INT64,
    max_per_group: int,
) -> tuple[INT64, INT64]:
    """``layers.batched_nms_fixed`` of a single row: boxes (1, N, 4), scores and groups (1, N)."""
    boxes_of_group = op.Equal(op.Unsqueeze(_groups(groups), [1]), groups)  # (G, N)
    scores_of_group = op.Where(boxes_of_group, scores, op.Constant(value_float=-float("inf")))
    kept = op.NonMaxSuppression(
        boxes,
        op.Unsqueeze(scores_of_group, [0]),
        op.Constant(value_ints=[max_per_group or _ALL]),
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[_LOWEST]),
    )  # (S, 3): row, group, box
    kept = op.Squeeze(op.Slice(kept, [2], [3], [1]), [1])  # (S,)
    # The best of the kept boxes by descending score, ties by index; the others score lowest.
    scores = op.Squeeze(scores, [0])
    lowest = op.Expand(op.Constant(value_floats=[_LOWEST]), op.Shape(scores))
    kept_scores = op.ScatterElements(lowest, kept, op.Gather(scores, kept))
    places = op.Reshape(max_output, [1])
    count = op.Min(op.Shape(kept), places)  # (1,)
    _, best = op.TopK(kept_scores, count)
    unused = op.Concat(op.Constant(value_ints=[0]), op.Sub(places, count), axis=0)
    return op.Unsqueeze(op.Pad(best, unused), [0]), count


def _groups(groups: INT64) -> INT64:
    """(G,) all numbers from 0 to the highest group; none of groups (1, N) need be there."""
    # A zero beside them, because there may be no box.
    highest = op.ReduceMax(
        op.Concat(op.Squeeze(groups, [0]), op.Constant(value_ints=[0]), axis=0), keepdims=0
    )
    zero, one = op.Constant(value_int=0), op.Constant(value_int=1)
    return op.Range(zero, op.Add(highest, one), one)
