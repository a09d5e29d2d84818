"""How a frozen norm disappears into the convolution before it.

A frozen norm is y = x * s + t with constants s and t per channel, so norm(conv(x, w)) is
conv(x, w * s, t): scaling the weights costs a pass over the weights instead of one over the
activations. ``conv_norm`` does it in each call, differentiable with respect to w, which serves
training; ``fuse_frozen_norms`` does it once and for all in a model that only predicts.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskrcnn_lib.layers.batch_norm import FrozenBatchNorm2d
from maskrcnn_lib.layers.convolution import conv2d
from maskrcnn_lib.layers.deform_conv import DFConv2d
from maskrcnn_lib.layers.linear import linear
from maskrcnn_lib.layers.packed import PackedConv2d, PackedLinear, is_plain_conv
from maskrcnn_lib.layers.weight_lists import (
    computing_dtype,
    in_dtype,
    scaled_again_for_backward,
)
from maskrcnn_lib.modeling.norm_search import pairs_in_use

# Frozen norms of torchvision and timm, which cannot be imported here, and timm's convolution that
# pads as TensorFlow does.
_FROZEN_ELSEWHERE = ("FrozenBatchNorm2d", "FrozenBatchNormAct2d")
_CONVOLUTIONS_ELSEWHERE = ("Conv2dSame",)
# Pairs in layers of other libraries are found on a picture of this height and width.
_TRIAL = (64, 96)


def _scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """(C,) factor and (C,) offset of a norm that does the same to every input."""
    if isinstance(norm, FrozenBatchNorm2d):
        return norm.scale_and_shift()
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is None:
        return scale, -norm.running_mean * scale
    scale = norm.weight * scale
    return scale, norm.bias - norm.running_mean * scale


def _folded(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does ``norm(conv(x))``."""
    scale, shift = _scale_and_shift(norm)
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    return conv.weight * scale.reshape(-1, 1, 1, 1), shift


def conv_frozen_norm(
    conv: nn.Conv2d,
    norm: FrozenBatchNorm2d,
    x: Tensor,
    *,
    add: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """``norm(conv(x))`` in one convolution: (N, C, H, W) -> (N, D, H', W').

    Under autocast weight and bias come in its dtype at once, without passes of their own. ``add``
    and ``relu`` as in ``conv_norm``.
    """
    dtype = computing_dtype(x)
    if conv.bias is None:
        _, bias = norm.scale_and_shift(dtype)
        weight = _scaled_weight(conv, norm, dtype)
    else:
        weight, bias = _folded(conv, norm)
    if isinstance(conv, DFConv2d):
        return _followed(conv.convolve(x, weight, bias), add, relu=relu)
    place = conv.stride, conv.padding, conv.dilation, conv.groups
    return conv2d(x, weight, bias, *place, add=add, relu=relu)


def _scaled_weight(conv: nn.Conv2d, norm: FrozenBatchNorm2d, dtype: torch.dtype) -> Tensor:
    """The convolution's weight times the norm's scale, from where it is already known, if so."""
    if norm.scaled_weight is not None:
        return norm.scaled_weight
    weight = conv.weight

    def scaled() -> Tensor:
        scale = norm.scale_and_shift(dtype)[0].reshape(-1, 1, 1, 1)
        return in_dtype([weight], dtype, scales=[scale])[0]

    if weight.requires_grad:
        return scaled()
    sources = (weight, norm.weight, norm.running_var)
    return norm.frozen_weight(sources, (dtype, weight.stride()), scaled)


@contextmanager
def scaled_at_once(part: nn.Module, x: Tensor) -> Iterator[None]:
    """Scales the trained weights before frozen norms in ``part`` in a few calls, for use within.

    Each of the 42 trained convolutions of a ResNet-50's body would otherwise have two calls of its
    own. Weights of one stage belong together: all of a body would be in memory for longer, and no
    rank could send a gradient before all are there.

    Args:
        part: what names its pairs as ``fuse_frozen_norms`` says.
        x: what it is about to get.
    """
    dtype = computing_dtype(x)
    pairs: list[tuple[nn.Conv2d, FrozenBatchNorm2d]] = []
    keeping: AbstractContextManager = nullcontext()
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        pairs = trained_before_frozen_norms(part)
    if pairs:
        scales = [norm.scale_and_shift(dtype)[0].reshape(-1, 1, 1, 1) for _, norm in pairs]
        own = [conv.weight for conv, _ in pairs]
        weights = in_dtype(own, dtype, scales=scales)
        for (_, norm), weight in zip(pairs, weights, strict=True):
            norm.scaled_weight = weight
        if dtype == own[0].dtype:  # others take less memory
            keeping = scaled_again_for_backward(own, scales, weights)
    try:
        with keeping:
            yield
    finally:
        for _, norm in pairs:
            norm.scaled_weight = None


def trained_before_frozen_norms(part: nn.Module) -> list[tuple[nn.Conv2d, FrozenBatchNorm2d]]:
    """The convolutions in ``part`` whose weights ``scaled_at_once`` scales, and their norms."""
    pairs = []
    for module in part.modules():
        for conv_name, norm_name in _pairs(module):
            conv, norm = getattr(module, conv_name), getattr(module, norm_name)
            frozen = isinstance(norm, FrozenBatchNorm2d) and isinstance(conv, nn.Conv2d)
            if frozen and conv.bias is None and conv.weight.requires_grad:
                pairs.append((conv, norm))
    return pairs


def conv_norm(
    conv: nn.Module,
    norm: nn.Module,
    x: Tensor,
    *,
    add: Tensor | None = None,
    overwrite: bool = False,
    relu: bool = False,
) -> Tensor:
    """``norm(conv(x))`` for any norm, plus ``add``, then a ReLU where asked for.

    The norm is folded where it is frozen. A packed convolution does everything in one pass.

    Args:
        conv, norm: the two layers.
        x: (N, C, H, W).
        add: (N, D, H', W').
        overwrite: whether ``add`` is used nowhere else, so that it may become the result.
        relu: whether a ReLU follows.
    """
    if isinstance(conv, PackedConv2d) and isinstance(norm, nn.Identity):
        return conv(x, add=add, overwrite=overwrite, relu=relu)
    if isinstance(norm, FrozenBatchNorm2d):
        return conv_frozen_norm(conv, norm, x, add=add, relu=relu)
    return _followed(norm(conv(x)), add, relu=relu)


def _followed(y: Tensor, add: Tensor | None, *, relu: bool) -> Tensor:
    """``relu(y + add)``, in place of y."""
    if add is not None:
        y = y.add_(add)
    return F.relu(y, inplace=True) if relu else y


def convolve(
    layer: nn.Module, x: Tensor, *, add: Tensor | None = None, relu: bool = False
) -> Tensor:
    """``layer(x) + add``, then a ReLU where asked for, in as few passes as the layer has them.

    Args:
        layer: a convolution, plain, packed or with followers of its own, or a linear layer.
        x: (N, C, H, W), or (K, C) for a linear layer.
        add: of the result's shape; may be overwritten where the layer is packed.
        relu: whether a ReLU follows.
    """
    if isinstance(layer, PackedConv2d):
        return layer(x, add=add, overwrite=True, relu=relu)
    if isinstance(layer, PackedLinear) and add is None:
        return layer(x, relu=relu)
    if is_plain_conv(layer):
        place = layer.stride, layer.padding, layer.dilation, layer.groups
        return conv2d(x, layer.weight, layer.bias, *place, add=add, relu=relu)
    if type(layer) is nn.Linear:
        return _followed(linear(x, layer.weight, layer.bias), add, relu=relu)
    return _followed(layer(x), add, relu=relu)


def fuse_frozen_norms(model: nn.Module) -> nn.Module:
    """Folds every constant norm of ``model`` into its convolution, in place, and returns the model.

    Constant are frozen norms, and batch norms in evaluation mode. A pair is found where a
    Sequential has a norm right behind a Conv2d, where a module names its pairs in an attribute
    ``conv_norm_pairs`` (tuples of two child names), and by a trial where a module says with an
    attribute ``foreign_layers`` that its layers know nothing of this. The norm becomes an Identity
    and the convolution gets a bias: predictions stay the same up to rounding, the names in the
    state dict do not. For inference only: load weights before, train without.
    """
    for module in model.modules():
        if getattr(module, "foreign_layers", False):
            _fuse_foreign(module)
        for conv_name, norm_name in _pairs(module):
            conv, norm = getattr(module, conv_name), getattr(module, norm_name)
            if _is_convolution(conv) and _is_constant(norm):
                _fuse(conv, norm)
                setattr(module, norm_name, _behind(norm))
    return model


def _fuse_foreign(body: nn.Module) -> None:
    names = {layer: name for name, layer in body.named_modules()}
    norms = [layer for layer in names if _is_constant(layer)]
    if not norms:
        return
    convs = [layer for layer in names if _is_convolution(layer)]
    images = next(body.parameters()).new_zeros(1, 3, *_TRIAL)
    for conv, norm in pairs_in_use(body, convs, norms, images):
        _fuse(conv, norm)
        body.set_submodule(names[norm], _behind(norm))


def _is_convolution(layer: nn.Module) -> bool:
    """Whether its weights times a factor are its output times the factor, which those that
    standardise their weights do not give."""
    named = type(layer).__name__ in _CONVOLUTIONS_ELSEWHERE
    return type(layer) in (nn.Conv2d, DFConv2d) or named


def _is_constant(norm: nn.Module) -> bool:
    if isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm):
        return not norm.training and norm.running_var is not None
    return isinstance(norm, FrozenBatchNorm2d) or type(norm).__name__ in _FROZEN_ELSEWHERE


def _behind(norm: nn.Module) -> nn.Module:
    """What a norm does besides: timm's may hold a dropout and an activation."""
    others = list(norm.children())
    return nn.Sequential(*others) if others else nn.Identity()


def _pairs(module: nn.Module) -> list[tuple[str, str]]:
    if isinstance(module, nn.Sequential):
        names = [name for name, _ in module.named_children()]
        return list(pairwise(names))
    return list(getattr(module, "conv_norm_pairs", ()))


@torch.no_grad()
def _fuse(conv: nn.Conv2d, norm: nn.Module) -> None:
    weight, bias = _folded(conv, norm)
    conv.weight.copy_(weight)
    conv.bias = nn.Parameter(bias, requires_grad=conv.weight.requires_grad)
