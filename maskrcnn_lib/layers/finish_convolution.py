"""Bias, shortcut and ReLU behind a convolution in one pass over its result, on a GPU.

cuDNN's convolution leaves them to torch, which takes a pass over memory for each: on an H200 these
were a quarter of a training step of Mask R-CNN.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from maskrcnn_lib.layers._library import cuda_ops_available, on_load


def finishes_convolutions(x: Tensor) -> bool:
    """Whether ``finish_convolution`` serves for convolutions of ``x``.

    It does on a GPU with the compiled operators; torch's compiler joins the passes by itself.
    """
    return x.is_cuda and not torch.compiler.is_compiling() and cuda_ops_available()


def finish_convolution(
    y: Tensor, bias: Tensor | None, *, add: Tensor | None = None, relu: bool = False
) -> Tensor:
    """``relu(y + bias + add)``, in place of y; differentiable by all three.

    The sum is made in float32 (float64 for float64) and rounded once.

    Args:
        y: (N, C, H, W) on a GPU, contiguous or channels_last; what a convolution without bias
            gave, which nobody else uses.
        bias: (C,); brought to the dtype of y.
        add: (N, C, H, W); brought to dtype and memory format of y.
        relu: whether negative values become 0; NaN stays.

    Raises:
        RuntimeError: shapes that do not fit.
    """
    if bias is not None:
        bias = bias.to(y.dtype)
    if add is not None:
        add = add.to(y.dtype)
        if add.stride() != y.stride():
            add = torch.empty_like(y).copy_(add)
    return _Finish.apply(y, bias, add, relu)


class _Finish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, bias: Tensor | None, add: Tensor | None, relu: bool) -> Tensor:
        torch.ops.maskrcnn.finish_convolution_(y, bias, add, relu)
        ctx.mark_dirty(y)
        if relu:
            ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.saved_tensors:
            grad = torch.ops.aten.threshold_backward(grad, ctx.saved_tensors[0], 0)
        to_y, to_bias, to_add, _ = ctx.needs_input_grad
        return (
            grad if to_y else None,
            grad.sum((0, 2, 3)) if to_bias else None,
            grad if to_add else None,
            None,
        )


def _register() -> None:
    def fake(y: Tensor, bias: Tensor | None, add: Tensor | None, relu: bool) -> None:
        """Changes y, and nothing about its shape."""

    torch.library.register_fake("maskrcnn::finish_convolution_")(fake)


on_load(_register)
