"""Autocast's casts of weights, made in one go for each part of a model.

Autocast brings each weight and bias to its dtype where it is used, and their gradients back, a call
for each: a hundred in a step of Mask R-CNN. Here it finds them in its dtype already.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from maskrcnn_lib.checkpoint.native import bare_model
from maskrcnn_lib.engine.training_graphs import GraphedBackbone
from maskrcnn_lib.layers.weight_lists import in_dtype
from maskrcnn_lib.modeling.fuse import trained_before_frozen_norms

# Layers that autocast computes in its dtype.
_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def call_with_cast_weights(model: nn.Module, dtype: torch.dtype, *args: Any, **kwargs: Any) -> Any:
    """``model(*args, **kwargs)`` with its trained weights in ``dtype``; for use under autocast.

    Gradients arrive at the weights themselves. Convolutions before frozen norms are left out, as
    theirs are cast when they are scaled; so is what is compiled or runs through CUDA graphs.
    Each child of the model is a group of its own, so that its gradients need not wait for others.
    """
    bare = bare_model(model)
    prefix = next(f"{name}." if name else "" for name, m in model.named_modules() if m is bare)
    weights: dict[str, Tensor] = {}
    for child_name, child in bare.named_children():
        own = dict(_weights_to_cast(child, f"{prefix}{child_name}."))
        if own:
            weights |= zip(own, in_dtype(list(own.values()), dtype), strict=True)
    return torch.func.functional_call(model, weights, args, kwargs)


def _weights_to_cast(module: nn.Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    scaled = {id(conv) for conv, _ in trained_before_frozen_norms(module)}
    yield from _walk(module, prefix, scaled)


def _walk(module: nn.Module, prefix: str, left_out: set[int]) -> Iterator[tuple[str, Tensor]]:
    if module._compiled_call_impl is not None or isinstance(module.forward, GraphedBackbone):
        return
    if isinstance(module, _LAYERS) and id(module) not in left_out:
        left_out.add(id(module))  # a layer that has two names
        for name, value in module.named_parameters(prefix.removesuffix("."), recurse=False):
            if value.requires_grad and value.dtype == torch.float32:
                yield name, value
    for name, child in module.named_children():
        if name not in getattr(module, "unpacked", ()):
            yield from _walk(child, f"{prefix}{name}.", left_out)
