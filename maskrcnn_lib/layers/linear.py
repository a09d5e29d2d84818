"""A linear layer whose backward pass lets go of its input before the input's gradient is there.

Torch does both products of the backward pass in one step, in whose end three tensors are in memory:
the input, its gradient and that of the weight. For the box head's first layer on 1024 regions each
takes 51 MB in float32, at the moment at which a training step needs most.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from maskrcnn_lib.layers.weight_lists import computing_dtype


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x @ weight.T + bias``: (K, C) -> (K, D); differentiable by all three.

    Values and gradients are those of torch's function, which does the work where the backward pass
    has nothing to spare, where autocast casts, and under torch's compiler.

    Args:
        x: (K, C).
        weight: (D, C).
        bias: (D,).
    """
    learns = torch.is_grad_enabled() and weight.requires_grad and x.requires_grad
    casts = not x.dtype == weight.dtype == computing_dtype(x)
    if not learns or casts or x.dim() != 2 or torch.compiler.is_compiling():
        return F.linear(x, weight, bias)
    # Without a weight that learns, x need not be kept for the gradients by x and bias.
    y = F.linear(x, weight.detach(), bias)
    return _LearnWeight.apply(y, x.detach(), weight)


class _LearnWeight(torch.autograd.Function):
    """Lets y pass. Backward it comes before the node that made y, and its x is freed in between."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        ctx.mark_dirty(y)  # so that y itself is the result and may be changed in place
        ctx.save_for_backward(x)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor]:
        return grad, None, grad.t() @ ctx.saved_tensors[0]
