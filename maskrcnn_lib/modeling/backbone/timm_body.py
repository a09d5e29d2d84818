"""timm's ImageNet classifiers as bodies: ``MODEL.BACKBONE.CONV_BODY: timm/NAME-FPN``.

Strides and channels come from the model's ``feature_info``, the maps from its method
``forward_intermediates``, which does not rename anything, as ``features_only`` does: parameter
names are timm's, behind ``model``, so that its files of weights fit.
"""

import inspect
from collections.abc import Sequence
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from maskrcnn_lib.utils.optional_packages import import_timm

# Arguments that let transformers take images of any size; the first that a model has is used.
_ANY_SIZE = {"dynamic_img_size": True, "strict_img_size": False}


class TimmBody(nn.Module):
    """A classifier up to the last map that is asked for.

    Args:
        model: one of timm's classifiers; what is not needed is taken out of it.
        strides: of the maps to return; of each the last one.
        freeze_at: parts with maps of stride 2 ** freeze_at and finer are not trained; 0 or less
            trains all.
        norm: "frozen" keeps the batch norms' statistics and weights, "batch" and "sync" train them.

    Attributes:
        out_channels: channels of the maps.
        classifier_eps: 0, because timm's frozen norms have their epsilon themselves.

    Raises:
        ValueError: the model has no map like that.
    """

    classifier_eps = 0.0
    foreign_layers = True  # see modeling.fuse

    def __init__(
        self, model: nn.Module, strides: Sequence[int], *, freeze_at: int = 0, norm: str = "frozen"
    ) -> None:
        super().__init__()
        parts = list(model.feature_info)
        last = {part["reduction"]: index for index, part in enumerate(parts)}
        missing = [stride for stride in strides if stride not in last]
        if missing:
            raise ValueError(f"it has maps of stride {sorted(last)}, but none of {missing}")
        indices = [last[stride] for stride in strides]
        self.out_channels = [parts[index]["num_chs"] for index in indices]
        frozen = [part["module"] for part in parts if part["reduction"] <= 2**freeze_at]
        # After it, numbers that were counted from the end would mean others.
        self.indices = model.prune_intermediate_layers(indices, prune_norm=True, prune_head=True)
        self.model = _with_norm(model, norm)
        if freeze_at > 0 and frozen:
            _freeze_up_to(self.model, frozen[-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Returns the maps (N, C, H, W), finest first, for images (N, 3, H, W)."""
        return self.model.forward_intermediates(
            x, indices=self.indices, norm=False, output_fmt="NCHW", intermediates_only=True
        )


def make_timm_body(
    name: str, strides: Sequence[int], *, freeze_at: int = 0, norm: str = "frozen"
) -> TimmBody:
    """A body of random weights from timm's classifier ``name``, such as ``resnet18.a1_in1k``.

    Arguments as in TimmBody.

    Raises:
        ModuleNotFoundError: timm is not installed.
        ValueError: timm has no such model, or it is no body for this.
    """
    timm = import_timm()
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"timm has no model {name!r}{hint}")
    try:
        with torch.device("meta"):
            arguments = inspect.signature(type(timm.create_model(name))).parameters
        any_size = [argument for argument in _ANY_SIZE if argument in arguments][:1]
        model = timm.create_model(name, **{argument: _ANY_SIZE[argument] for argument in any_size})
        return TimmBody(model, strides, freeze_at=freeze_at, norm=norm)
    except (ValueError, RuntimeError) as error:  # the latter of a tag that timm does not know
        raise ValueError(f"timm's {name} cannot be the body: {error}") from error


def _with_norm(model: nn.Module, norm: str) -> nn.Module:
    """timm's batch norms may hold the activation behind them, so that timm must replace them."""
    from timm.layers import convert_sync_batchnorm, freeze_batch_norm_2d

    replace = {
        "frozen": freeze_batch_norm_2d,
        "batch": lambda unchanged: unchanged,
        "sync": convert_sync_batchnorm,
    }
    if norm not in replace:
        raise ValueError(f"its norms can be {' or '.join(map(repr, replace))}, but not {norm!r}")
    return replace[norm](model)


def _freeze_up_to(model: nn.Module, part: str) -> None:
    """Freezes ``part`` and all that stands before it: timm registers layers in order of use."""
    from timm.layers import freeze_batch_norm_2d

    modules = list(model.named_modules())
    last = max(
        index for index, (name, _) in enumerate(modules) if f"{name}.".startswith(f"{part}.")
    )
    for name, module in modules[: last + 1]:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
        if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
            model.set_submodule(name, freeze_batch_norm_2d(module))
