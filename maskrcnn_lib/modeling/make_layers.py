"""Convolutions and linear layers with the initialisations that the detectors were trained from.

``kaiming_uniform`` with a = 1 is Caffe2's XavierFill; ``kaiming_normal`` is He's (He et al. 2015,
arXiv:1502.01852); both set biases to 0.
"""

import math
from collections.abc import Callable

from torch import nn

from maskrcnn_lib.layers.batch_norm import FrozenBatchNorm2d

NormFactory = Callable[[int], nn.Module]
WeightedLayer = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


def init_kaiming_uniform(layer: WeightedLayer) -> None:
    """Fills ``layer`` in place: weight U(-b, b) with b = sqrt(3 / fan_in), bias 0."""
    nn.init.kaiming_uniform_(layer.weight, a=1)
    _zero_bias(layer)


def init_kaiming_normal(layer: WeightedLayer, *, relu: bool = True) -> None:
    """Fills ``layer`` in place: weight N(0, 2 / fan_out), bias 0.

    The fan of a grouped convolution counts the outputs that one input channel reaches. Without a
    ReLU behind the layer, which halves the variance, it is N(0, 1 / fan_out).
    """
    nonlinearity = "relu" if relu else "linear"
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity=nonlinearity)
    groups = getattr(layer, "groups", 1)
    if groups > 1:
        layer.weight.data.mul_(math.sqrt(groups))
    _zero_bias(layer)


def init_normal(layer: WeightedLayer, std: float) -> None:
    """Fills ``layer`` in place: weight N(0, std^2), bias 0."""
    nn.init.normal_(layer.weight, std=std)
    _zero_bias(layer)


def _zero_bias(layer: WeightedLayer) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def group_norm(
    channels: int, *, num_groups: int = 32, dim_per_group: int = -1, eps: float = 1e-5
) -> nn.GroupNorm:
    """Group normalisation (Wu & He 2018, arXiv:1803.08494) by group count or by group width.

    Args:
        channels: number of channels to normalise.
        num_groups: number of groups, or -1 to take ``dim_per_group``.
        dim_per_group: channels per group, or -1 to take ``num_groups``.
        eps: added to the variance.

    Raises:
        ValueError: not exactly one of the two is given, or it does not divide ``channels``.
    """
    if (num_groups > 0) == (dim_per_group > 0):
        raise ValueError(
            "give exactly one of num_groups and dim_per_group, and -1 for the other; got "
            f"{num_groups} and {dim_per_group} (config keys MODEL.GROUP_NORM.*)"
        )
    divisor = num_groups if num_groups > 0 else dim_per_group
    if channels % divisor:
        raise ValueError(
            f"{channels} channels cannot be normalised in groups: {divisor} no divisor"
        )
    groups = num_groups if num_groups > 0 else channels // dim_per_group
    return nn.GroupNorm(groups, channels, eps)


def freeze_batch_norms(module: nn.Module) -> None:
    """Replaces the batch norms inside ``module``, in place, by ones whose statistics stay.

    For parts that are not trained: a batch norm in training mode changes its statistics even where
    its weights are frozen. Parameter names stay; statistics and weights become buffers.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d | nn.SyncBatchNorm):
            setattr(module, name, FrozenBatchNorm2d(child.num_features))
        else:
            freeze_batch_norms(child)


def make_conv(
    in_channels: int,
    out_channels: int,
    *,
    kernel_size: int = 3,
    stride: int = 1,
    dilation: int = 1,
    norm: NormFactory | None = None,
    relu: bool = False,
    init: Callable[[nn.Conv2d], None] = init_kaiming_uniform,
) -> nn.Conv2d | nn.Sequential:
    """A convolution that keeps the size (up to its stride), alone or with norm and ReLU behind.

    Returns the bare convolution where neither is asked for, so that its parameters carry no index;
    otherwise a Sequential. A convolution with a norm has no bias.
    """
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride,
        padding=dilation * (kernel_size - 1) // 2,
        dilation=dilation,
        bias=norm is None,
    )
    init(conv)
    followers: list[nn.Module] = []
    if norm is not None:
        followers.append(norm(out_channels))
    if relu:
        followers.append(nn.ReLU(inplace=True))
    return nn.Sequential(conv, *followers) if followers else conv


def make_fc(
    in_features: int, out_features: int, *, norm: NormFactory | None = None
) -> nn.Linear | nn.Sequential:
    """A linear layer, alone or with a norm behind (and then without bias)."""
    linear = nn.Linear(in_features, out_features, bias=norm is None)
    init_kaiming_uniform(linear)
    return linear if norm is None else nn.Sequential(linear, norm(out_features))
