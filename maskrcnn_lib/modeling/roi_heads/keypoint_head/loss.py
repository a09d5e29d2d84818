"""What the keypoint head learns: one cell of each heat map (Mask R-CNN, section 5)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from maskrcnn_lib.modeling.losses import LossSum, at_least_float32


def keypoint_loss(logits: Tensor, cells: Tensor, valid: Tensor) -> LossSum:
    """Cross entropy over the cells of each heat map, averaged over the keypoints that count.

    Args:
        logits: (K, P, M, M).
        cells: (K, P) int64, the right cell, row * M + column.
        valid: (K, P) bool, which keypoints count.
    """
    scores = at_least_float32(logits).flatten(2).flatten(0, 1)  # (K * P, M * M)
    per_keypoint = F.cross_entropy(scores, cells.flatten(), reduction="none")
    return LossSum(torch.where(valid.flatten(), per_keypoint, 0.0).sum(), valid.sum())
