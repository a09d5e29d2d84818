"""Many weights scaled and brought to another dtype in a few calls instead of a few for each."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def computing_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which a convolution of ``x`` computes: autocast's, where it is switched on."""
    device = x.device.type
    if x.is_meta:  # there is no autocast on "meta"
        return x.dtype
    if torch.is_autocast_enabled(device) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return x.dtype


def in_dtype(
    weights: Sequence[Tensor], dtype: torch.dtype, *, scales: Sequence[Tensor] | None = None
) -> tuple[Tensor, ...]:
    """The weights in ``dtype``, each times its scale before; differentiable by the weights.

    Args:
        weights: of one dtype.
        dtype: of the results.
        scales: for each weight a constant that can be broadcast to its shape, in its dtype.
    """
    return _InDtype.apply(dtype, scales, *weights)


def scaled_again_for_backward(
    weights: Sequence[Tensor], scales: Sequence[Tensor], scaled: Sequence[Tensor]
) -> AbstractContextManager:
    """Within it, autograd keeps none of the scaled weights, but scales again when it needs them.

    A copy of a ResNet-50's weights takes 94 MB in float32, all the way from its forward pass to its
    backward pass. Scaling them again takes a hundredth of a convolution's time.

    Args:
        weights, scales: as for ``in_dtype``.
        scaled: what it gave, in the dtype of the weights.

    Raises:
        RuntimeError: in the backward pass, if a weight was changed in between.
    """
    places = {value.data_ptr(): index for index, value in enumerate(scaled)}
    versions = [weight._version for weight in weights]

    def pack(value: Tensor) -> Tensor | int:
        # A result that knows the node which keeps it would keep both alive without a backward pass.
        return places.get(value.data_ptr(), value.detach())

    def unpack(packed: Tensor | int) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        if versions[packed] != weights[packed]._version:
            raise RuntimeError("a weight was changed between forward and backward pass")
        with torch.no_grad():  # one by one: those of a whole stage take 60 MB
            return weights[packed] * scales[packed]

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


class _InDtype(torch.autograd.Function):
    """One node for all weights: one pass over the list forward, one backward."""

    @staticmethod
    def forward(
        ctx: Any, dtype: torch.dtype, scales: Sequence[Tensor] | None, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.scales, ctx.weight_dtype = scales, weights[0].dtype
        ctx.set_materialize_grads(False)
        values = list(weights) if scales is None else torch._foreach_mul(weights, scales)
        return tuple(_cast(values, dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        there = [index for index, grad in enumerate(grads) if grad is not None]
        results: list[Tensor | None] = [None] * len(grads)
        if there:
            # Nobody else has these gradients, so that they can be scaled where they are.
            values = _cast([grads[index] for index in there], ctx.weight_dtype)
            if ctx.scales is not None:
                torch._foreach_mul_(values, [ctx.scales[index] for index in there])
            for index, value in zip(there, values, strict=True):
                results[index] = value
        return None, None, *results


def _cast(values: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The values in ``dtype``, in one call; the same tensors where they have it already."""
    if all(value.dtype == dtype for value in values):
        return values
    results = [torch.empty_like(value, dtype=dtype) for value in values]
    torch._foreach_copy_(results, values)
    return results
