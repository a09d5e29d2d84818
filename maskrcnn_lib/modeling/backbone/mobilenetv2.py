"""MobileNetV2 as a body, and a light neck that brings its last three levels onto one map.

Method: Sandler et al. 2018, arXiv:1801.04381. Parameter names are those of torchvision's
``mobilenet_v2().features``, so that its ImageNet weights fit; the last 1x1 convolution, which
serves classification, is left out.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from maskrcnn_lib.layers.batch_norm import FrozenBatchNorm2d
from maskrcnn_lib.modeling.fuse import conv_norm
from maskrcnn_lib.modeling.make_layers import NormFactory, freeze_batch_norms, init_kaiming_normal

# Expansion, channels, blocks, stride of the first block: table 2 of the paper.
_ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2))
_LAST_ROW = (6, 320, 1, 1)
_STEM_CHANNELS = 32
_MIXING_BLOCKS = 2  # of the neck
# Last feature of strides 8, 16 and 32.
_TAPS = (6, 13, 17)


class ConvNorm(nn.Sequential):
    """Convolution and norm, then ReLU6 where asked for: (N, C, H, W) -> (N, D, H', W')."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        norm: NormFactory,
    ) -> None:
        conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        init_kaiming_normal(conv)
        super().__init__(conv, norm(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(conv_norm(self[0], self[1], x), inplace=True)


class InvertedResidual(nn.Module):
    """Expand, filter per channel, project: (N, C, H, W) -> (N, D, H', W').

    The input is added where the output has its shape.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expansion: int,
        stride: int,
        kernel: int = 3,
        norm: NormFactory,
    ) -> None:
        super().__init__()
        width = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(ConvNorm(in_channels, width, norm=norm))
        layers.append(ConvNorm(width, width, kernel=kernel, stride=stride, groups=width, norm=norm))
        project = nn.Conv2d(width, out_channels, 1, bias=False)
        init_kaiming_normal(project, relu=False)
        self.conv = nn.Sequential(*layers, project, norm(out_channels))
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.conv[:-2]:
            y = layer(y)
        y = conv_norm(self.conv[-2], self.conv[-1], y)
        return x + y if self.residual else y


class MobileNetV2Body(nn.Module):
    """Images (N, 3, H, W) -> three maps of strides 8, 16 and 32.

    Args:
        freeze_at: this many features, counted from the stem, are not trained, and their batch norms
            become frozen ones.
        norm: makes the norm behind each convolution; by default frozen, for ImageNet's statistics.

    Attributes:
        out_channels: channels of the three maps.
    """

    out_channels = (32, 96, 320)

    def __init__(self, *, freeze_at: int = 0, norm: NormFactory = FrozenBatchNorm2d) -> None:
        super().__init__()
        features: list[nn.Module] = [ConvNorm(3, _STEM_CHANNELS, kernel=3, stride=2, norm=norm)]
        channels = _STEM_CHANNELS
        for expansion, width, blocks, first_stride in (*_ROWS, _LAST_ROW):
            for stride in (first_stride, *[1] * (blocks - 1)):
                features.append(
                    InvertedResidual(channels, width, expansion=expansion, stride=stride, norm=norm)
                )
                channels = width
        self.features = nn.Sequential(*features)
        frozen = self.features[:freeze_at]
        freeze_batch_norms(frozen)
        frozen.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Returns the maps, finest first."""
        maps = []
        for index, feature in enumerate(self.features):
            x = feature(x)
            if index in _TAPS:
                maps.append(x)
        return maps


class SingleLevelNeck(nn.Module):
    """Brings maps of strides 8, 16 and 32 onto one of stride 16 (a pyramid of one level).

    The fine map is averaged over 2 x 2 pixels, the coarse one is doubled, each behind a 1x1
    convolution of its own; inverted residuals with 5x5 kernels mix the sum.

    Args:
        in_channels: channels of the three maps.
        out_channels: channels of the map that comes out.
        norm: makes the norm behind each convolution.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, *, norm: NormFactory) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            nn.Conv2d(channels, out_channels, 1, bias=False) for channels in in_channels
        )
        for conv in self.lateral:
            init_kaiming_normal(conv)
        self.norm = norm(out_channels)
        self.mix = nn.Sequential(
            *(
                InvertedResidual(
                    out_channels, out_channels, expansion=2, stride=1, kernel=5, norm=norm
                )
                for _ in range(_MIXING_BLOCKS)
            )
        )
        self.out_channels = out_channels

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Returns the one map (N, out_channels, H/16, W/16) in a list."""
        fine, middle, coarse = (conv(x) for conv, x in zip(self.lateral, maps, strict=True))
        size = middle.shape[-2:]
        fine = F.adaptive_avg_pool2d(fine, size)
        coarse = F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
        x = F.relu(self.norm(fine + middle + coarse))
        return [self.mix(x)]
