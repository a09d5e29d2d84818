"""Smooth L1 (Huber) loss of box regression (Girshick, Fast R-CNN, 2015, eq. 3), with a width."""

from torch import Tensor
from torch.nn import functional as F


def smooth_l1_loss(
    input: Tensor, target: Tensor, beta: float = 1.0 / 9, *, size_average: bool = True
) -> Tensor:
    """0.5 d^2 / beta where |d| < beta, else |d| - 0.5 beta, with d = input - target.

    Args:
        input: predictions of any shape.
        target: same shape.
        beta: where the parabola meets the line; 0 is plain L1.
        size_average: mean over all elements; else their sum.

    Returns:
        Scalar. Without any element it is 0 and has a gradient, so that images without objects
        train like others.

    Raises:
        ValueError: shapes differ.
    """
    if input.shape != target.shape:
        raise ValueError(
            f"input {tuple(input.shape)} and target {tuple(target.shape)} must have one shape"
        )
    mean = size_average and input.numel() > 0
    return F.smooth_l1_loss(input, target, reduction="mean" if mean else "sum", beta=beta)
