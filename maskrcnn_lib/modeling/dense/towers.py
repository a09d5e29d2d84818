"""Layers that the heads of one-stage detectors are made of (Lin et al. 2017, arXiv:1708.02002,
section 4)."""

import math
from functools import partial

from torch import nn

from maskrcnn_lib.modeling.make_layers import NormFactory, init_normal, make_conv

_INIT_STD = 0.01
init_small = partial(init_normal, std=_INIT_STD)


def conv_tower(channels: int, num_convs: int, norm: NormFactory | None) -> nn.Sequential:
    """Convolutions, norms if there are any, and ReLUs in one row, all of ``channels``."""
    convs = [
        make_conv(channels, channels, norm=norm, relu=True, init=init_small)
        for _ in range(num_convs)
    ]
    return nn.Sequential(*(layer for conv in convs for layer in conv))


def class_layer(in_channels: int, out_channels: int, *, prior: float) -> nn.Conv2d:
    """A convolution whose outputs begin as the logits of the score ``prior``."""
    conv = make_conv(in_channels, out_channels, init=init_small)
    nn.init.constant_(conv.bias, -math.log((1 - prior) / prior))
    return conv
