"""torchvision's ImageNet classifiers as bodies: ``MODEL.BACKBONE.CONV_BODY: torchvision/NAME-FPN``.

Most of them are chains: layer after layer, up to the average of the last map. Which layers give
maps of which stride and how many channels is tried out on a small picture. Parameter names are
torchvision's, behind ``model``, so that its files of weights fit.
"""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import NamedTuple

import torch
from torch import Tensor, nn

from maskrcnn_lib.modeling.make_layers import freeze_batch_norms

# What follows the last map in torchvision's classifiers.
_BEHIND_THE_MAPS = ("avgpool", "classifier", "fc", "head")
# Height and width of the trial: every stride up to 32 divides them, and they differ from each other
# by a factor that tells them from channels.
_TRIAL = (128, 192)


class LayerMap(NamedTuple):
    """The map that a layer gives.

    Attributes:
        layer: name of the layer in the classifier.
        stride: height of the picture / height of the map.
        channels: of the map.
        channels_last: whether the layer returns (N, H, W, C), as those of transformers do.
    """

    layer: str
    stride: int
    channels: int
    channels_last: bool


class TorchvisionBody(nn.Module):
    """The chain of a classifier's layers up to the last map that is asked for.

    Args:
        model: one of torchvision's classifiers; what is not needed is taken out of it.
        strides: of the maps to return; of each the last layer that has it.
        layers: or the layers whose maps are returned, by name; () takes ``strides``.
        freeze_at: layers with maps of stride 2 ** freeze_at and finer are not trained; 0 or less
            trains all.
        norm: "frozen" keeps the batch norms' statistics and weights, "batch" and "sync" train them.

    Attributes:
        out_channels: channels of the maps.
        classifier_eps: epsilon of the classifier's batch norms, which a frozen one lacks.

    Raises:
        ValueError: the model is no chain, or has no map like that.
    """

    foreign_layers = True  # see modeling.fuse

    def __init__(
        self,
        model: nn.Module,
        strides: Sequence[int],
        *,
        layers: Sequence[str] = (),
        freeze_at: int = 0,
        norm: str = "frozen",
    ) -> None:
        super().__init__()
        maps = list(_try_out(model))
        chosen = _by_name(maps, layers) if layers else _by_stride(maps, strides)
        last = maps.index(chosen[-1])
        self.path = [layer_map.layer for layer_map in maps[: last + 1]]
        self.channels_last = {m.layer: m.channels_last for m in chosen}
        self.out_channels = [layer_map.channels for layer_map in chosen]
        self.classifier_eps = _batch_norm_eps(model)
        _cut(model, self.path)
        _use_norm(model, norm)
        for layer_map in maps[: last + 1]:
            if layer_map.stride <= 2**freeze_at and freeze_at > 0:
                _freeze(model, layer_map.layer)
        self.model = model

    def forward(self, x: Tensor) -> list[Tensor]:
        """Returns the maps (N, C, H, W), finest first, for images (N, 3, H, W)."""
        outputs = []
        for layer in self.path:
            x = self.model.get_submodule(layer)(x)
            if layer in self.channels_last:
                outputs.append(x.permute(0, 3, 1, 2) if self.channels_last[layer] else x)
        return outputs


def make_torchvision_body(
    name: str,
    strides: Sequence[int],
    *,
    layers: Sequence[str] = (),
    freeze_at: int = 0,
    norm: str = "frozen",
) -> TorchvisionBody:
    """A body of random weights from torchvision's classifier ``name``; see TorchvisionBody.

    Raises:
        ValueError: torchvision has no such model, or it is no body for this.
    """
    from torchvision.models import get_model, list_models

    if name not in list_models():
        near = get_close_matches(name, list_models(), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"torchvision has no model {name!r}{hint}")
    try:
        return TorchvisionBody(
            get_model(name, weights=None), strides, layers=layers, freeze_at=freeze_at, norm=norm
        )
    except ValueError as error:
        raise ValueError(f"torchvision's {name} cannot be the body: {error}") from error


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers in front of the classifier's last average, those of a Sequential one by one."""
    for name, child in model.named_children():
        if name in _BEHIND_THE_MAPS:
            return
        if type(child).forward is nn.Sequential.forward:
            yield from ((f"{name}.{inner}", layer) for inner, layer in child.named_children())
        else:
            yield name, child


@torch.no_grad()
def _try_out(model: nn.Module) -> Iterator[LayerMap]:
    """The map of each layer, as long as there is one."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    height, width = _TRIAL
    x = torch.zeros(1, 3, height, width, device=device)
    for name, layer in _layers(model):
        try:
            x = layer(x)
        except Exception as error:  # whatever a layer says that is not called with a map alone
            raise ValueError(f"it is no chain of layers: {name} failed with {error}") from error
        if x.dim() != 4:
            break
        channels_last = _in_proportion(x.shape[1:3]) and not _in_proportion(x.shape[2:])
        rows, channels = (x.shape[1], x.shape[3]) if channels_last else (x.shape[2], x.shape[1])
        yield LayerMap(name, round(height / rows), channels, channels_last)
    model.train(was_training)


def _in_proportion(sides: Sequence[int]) -> bool:
    """Whether these are height and width of a map of the trial's picture."""
    return sides[0] * _TRIAL[1] == sides[1] * _TRIAL[0]


def _by_name(maps: Sequence[LayerMap], layers: Sequence[str]) -> list[LayerMap]:
    known = {layer_map.layer: layer_map for layer_map in maps}
    unknown = [layer for layer in layers if layer not in known]
    if unknown:
        raise ValueError(f"there are no maps of {unknown}; layers with maps are {list(known)}")
    return sorted((known[layer] for layer in layers), key=maps.index)


def _by_stride(maps: Sequence[LayerMap], strides: Sequence[int]) -> list[LayerMap]:
    last = {layer_map.stride: layer_map for layer_map in maps}
    missing = [stride for stride in strides if stride not in last]
    if missing:
        raise ValueError(f"it has maps of stride {sorted(last)}, but none of {missing}")
    return [last[stride] for stride in strides]


def _cut(model: nn.Module, path: Sequence[str]) -> None:
    """Takes out of ``model`` the layers that are not on the path."""
    for name, child in list(model.named_children()):
        inner = [layer.removeprefix(f"{name}.") for layer in path if layer.startswith(f"{name}.")]
        if not inner and name not in path:
            delattr(model, name)
        for unused in [layer for layer in child._modules if inner and layer not in inner]:
            delattr(child, unused)


def _batch_norm_eps(model: nn.Module) -> float:
    norms = (module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    return next((norm.eps for norm in norms), 0.0)


def _use_norm(model: nn.Module, norm: str) -> None:
    if norm == "frozen":
        freeze_batch_norms(model)
    elif norm == "sync":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    elif norm != "batch":
        raise ValueError(f"its norms can be 'frozen', 'batch' or 'sync', but not {norm!r}")


def _freeze(model: nn.Module, layer: str) -> None:
    parent, _, name = layer.rpartition(".")
    holder = nn.ModuleDict({"layer": model.get_submodule(layer)})
    freeze_batch_norms(holder)  # the layer itself may be one
    holder.requires_grad_(False)
    setattr(model.get_submodule(parent), name, holder["layer"])
