"""Weights in a quarter of their size: 8-bit integers with one scale per output channel.

A weight w of an output channel is stored as round(w / s) with s = max |w| / 127, so that no value
moves by more than s / 2 (Krishnamoorthi 2018, arXiv:1806.08342, section 3.1, symmetric, per
channel). What is not the weight of a layer (biases, norms) stays as it is. Files are safetensors:
a weight is ``I8`` under its own name, its scales lie beside it under ``<name>.scale``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskrcnn_lib.checkpoint.native import bare_model
from maskrcnn_lib.checkpoint.safetensors import save_safetensors

_SUFFIX = ".scale"
_LARGEST = 127


def save_compact(
    model: nn.Module,
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    config: str = "",
) -> None:
    """Writes a model's weights with layers as 8-bit integers; arguments as ``save_safetensors``."""
    stored: dict[str, Tensor] = {}
    for name, value in bare_model(model).state_dict().items():
        if value.dim() >= 2 and value.is_floating_point():
            stored[name], stored[name + _SUFFIX] = quantise(value)
        else:
            stored[name] = value
    save_safetensors(stored, path, class_names=class_names, config=config)


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight (D, ...) as (D, ...) int8 and (D,) float32 scales; see :func:`restore`."""
    weight = weight.detach().float()
    scale = weight.flatten(1).abs().amax(dim=1) / _LARGEST
    # A channel of zeros stays one, whatever its scale.
    divisor = torch.where(scale > 0, scale, 1.0).reshape(-1, *[1] * (weight.dim() - 1))
    return (weight / divisor).round().to(torch.int8), scale


def restore(values: Tensor, scale: Tensor) -> Tensor:
    """The float32 weight (D, ...) that ``quantise`` gave (D, ...) int8 and (D,) scales for."""
    return values.float() * scale.reshape(-1, *[1] * (values.dim() - 1))


def expand(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a file of weights with its 8-bit weights restored, in the same order.

    Args:
        content: what ``read_safetensors`` gives; of other files than ``save_compact``'s it comes
            back unchanged.

    Raises:
        ValueError: the scales of a weight do not fit it.
    """
    tensors = content.get("model")
    if not isinstance(tensors, Mapping):
        return dict(content)
    scales = {
        name.removesuffix(_SUFFIX): tensor
        for name, tensor in tensors.items()
        if name.endswith(_SUFFIX) and _is_int8(tensors.get(name.removesuffix(_SUFFIX)))
    }
    for name, scale in scales.items():
        if scale.shape != tensors[name].shape[:1]:
            raise ValueError(
                f"{tuple(scale.shape)} scales for the weight {name} of {tuple(tensors[name].shape)}"
            )
    restored = {
        name: restore(tensor, scales[name]) if name in scales else tensor
        for name, tensor in tensors.items()
        if name.removesuffix(_SUFFIX) not in scales or not name.endswith(_SUFFIX)
    }
    return {**content, "model": restored}


def _is_int8(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.dtype == torch.int8
