"""Convolution, bias, shortcut and ReLU as one kernel of cuDNN, in half precision.

What follows the convolution happens before its result reaches memory: on an H200 a convolution with
bias and ReLU takes what the convolution alone takes. cuDNN makes such kernels for tensor cores from
Ampere on, for channels_last maps whose channels it can read eight at a time.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_OLDEST_GENERATION = (8, 0)
_CHANNELS_AT_ONCE = 8

Pair = tuple[int, int]


def fuses_convolution(x: Tensor, weight: Tensor, groups: int) -> bool:
    """Whether ``convolution_relu`` serves for a map and a weight of the dtype to compute in.

    Args:
        x: (N, C, H, W) on a GPU.
        weight: (D, C / groups, kernel height, kernel width).
        groups: of the convolution.
    """
    return (
        groups == 1
        and x.dtype == weight.dtype
        and x.dtype in (torch.bfloat16, torch.float16)
        and x.numel() > 0
        and x.is_contiguous(memory_format=torch.channels_last)
        and not any(count % _CHANNELS_AT_ONCE for count in weight.shape[:2])
        and torch.backends.cudnn.is_available()
        and torch.backends.cudnn.enabled
        and torch.cuda.get_device_capability(x.device) >= _OLDEST_GENERATION
    )


def convolution_relu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    add: Tensor | None,
    *,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Tensor:
    """``relu(conv2d(x, weight, bias) + add)``, rounded once; differentiable by all four.

    Args:
        x: (N, C, H, W), see ``fuses_convolution``.
        weight: (D, C, kernel height, kernel width).
        bias: (D,) of the same dtype.
        add: (N, D, H', W') of the same dtype.
        stride, padding, dilation: as for ``conv2d``.
    """
    place = list(stride), list(padding), list(dilation)
    if torch.is_grad_enabled():
        return _ConvolutionReLU.apply(x, weight, bias, add, place)
    return _convolve(x, weight, bias, add, place)


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor, add: Tensor | None, place: tuple[list[int], ...]
) -> Tensor:
    if add is None:
        return torch.cudnn_convolution_relu(x, weight, bias, *place, 1)
    return torch.cudnn_convolution_add_relu(x, weight, add, 1.0, bias, *place, 1)


class _ConvolutionReLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        add: Tensor | None,
        place: tuple[list[int], ...],
    ) -> Tensor:
        y = _convolve(x, weight, bias, add, place)
        ctx.save_for_backward(x, weight, y)
        ctx.place = place
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        grad = torch.ops.aten.threshold_backward(grad, y, 0)
        *of_convolution, to_add, _ = ctx.needs_input_grad
        grads: list[Tensor | None] = [None] * 3
        if any(of_convolution):
            grads = torch.ops.aten.convolution_backward(
                grad, x, weight, [len(weight)], *ctx.place, False, [0, 0], 1, of_convolution
            )
        return (*grads, grad if to_add else None, None)
