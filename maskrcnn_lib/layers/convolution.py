"""Convolution by the faster of the libraries that torch has for it."""

import torch
from torch import Tensor
from torch.nn import functional as F


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """``torch.nn.functional.conv2d``, with oneDNN for 1x1 kernels on a single thread, too.

    There torch takes the BLAS library instead, which is MKL and runs at half the speed on
    processors that are not Intel's. A dilation, which means nothing to a 1x1 kernel, is what makes
    torch take oneDNN.

    Args:
        input: (N, C, H, W).
        weight: (D, C / groups, kernel height, kernel width).
        bias: (D,).
        stride, padding, dilation, groups: as for ``conv2d``.
    """
    if weight.shape[2:] == (1, 1) and _torch_would_take_blas(input):
        dilation = (2, 2)
    return F.conv2d(input, weight, bias, stride, padding, dilation, groups)


def _torch_would_take_blas(input: Tensor) -> bool:
    if torch.compiler.is_compiling():  # the compiler chooses for itself
        return False
    return input.device.type == "cpu" and torch.get_num_threads() == 1
