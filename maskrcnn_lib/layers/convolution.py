"""Convolution by the faster of the libraries that torch has for it, with what follows it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from maskrcnn_lib.layers.cudnn_fusion import convolution_relu, fuses_convolution
from maskrcnn_lib.layers.finish_convolution import finish_convolution, finishes_convolutions
from maskrcnn_lib.layers.weight_lists import computing_dtype


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    *,
    add: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """``torch.nn.functional.conv2d``, plus ``add``, then a ReLU where asked for.

    On a GPU all that follows the convolution is part of it, or one pass over its result. On the CPU
    1x1 kernels go to oneDNN on a single thread, too: there torch takes the BLAS library instead,
    which is MKL and runs at half the speed on processors that are not Intel's. A dilation, which
    means nothing to a 1x1 kernel, is what makes torch take oneDNN.

    Args:
        input: (N, C, H, W).
        weight: (D, C / groups, kernel height, kernel width).
        bias: (D,).
        stride, padding, dilation, groups: as for ``conv2d``.
        add: (N, D, H', W').
        relu: whether a ReLU follows.
    """
    if (bias is not None or add is not None or relu) and finishes_convolutions(input):
        return _on_gpu(input, weight, bias, (stride, padding, dilation), groups, add, relu=relu)
    if weight.shape[2:] == (1, 1) and _torch_would_take_blas(input):
        dilation = (2, 2)
    y = F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    if add is not None:
        y = y.add_(add)
    return F.relu(y, inplace=True) if relu else y


def _on_gpu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    place: tuple[tuple[int, int], ...],
    groups: int,
    add: Tensor | None,
    *,
    relu: bool,
) -> Tensor:
    dtype = computing_dtype(x)
    x, weight = x.to(dtype), weight.to(dtype)
    if relu and bias is not None and fuses_convolution(x, weight, groups):
        add = None if add is None else add.to(dtype)
        stride, padding, dilation = place
        return convolution_relu(
            x, weight, bias.to(dtype), add, stride=stride, padding=padding, dilation=dilation
        )
    y = F.conv2d(x, weight, None, *place, groups)
    return finish_convolution(y, bias, add=add, relu=relu)


def _torch_would_take_blas(input: Tensor) -> bool:
    if torch.compiler.is_compiling():  # the compiler chooses for itself
        return False
    return input.device.type == "cpu" and torch.get_num_threads() == 1
