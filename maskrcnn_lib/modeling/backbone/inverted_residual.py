"""The block that mobile networks are made of: expand, filter per channel, project.

Method: Sandler et al. 2018, arXiv:1801.04381, in the kinds that FBNet and FBNetV3 have of it.
Parameter names are those of both (``pw.conv.weight``, ``dw.conv.weight``, ``pwl.bn.bias``).
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from maskrcnn_lib.modeling.fuse import conv_norm
from maskrcnn_lib.modeling.make_layers import NormFactory, init_kaiming_normal


@dataclass(frozen=True)
class Block:
    """One row of an architecture: an inverted residual.

    Attributes:
        kernel: side of the depthwise convolution.
        expansion: channels of the depthwise convolution per input channel.
        channels: output channels.
        stride: of the depthwise convolution.
        upsample: whether the map is doubled, by nearest pixel, before the depthwise convolution.
    """

    kernel: int
    expansion: float
    channels: int
    stride: int = 1
    upsample: bool = False


def divisible_width(width: float, divisor: int) -> int:
    """``width`` rounded to a multiple of ``divisor``, halves up, and at least that."""
    return max(1, int(int(width) / divisor + 0.5)) * divisor


class ConvBlock(nn.Module):
    """A convolution that keeps the size up to its stride, then norm and ReLU where asked for.

    Args:
        in_channels, out_channels, kernel, stride, groups: as for ``nn.Conv2d``.
        relu: whether a ReLU follows.
        norm: makes the norm that stands beside the convolution as ``bn``; none by default.
        bias: by default, the convolution has one where it has no norm (published weights have their
            norm folded into it).
    """

    conv_norm_pairs = (("conv", "bn"),)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        relu: bool = False,
        norm: NormFactory | None = None,
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            stride,
            padding=kernel // 2,
            groups=groups,
            bias=norm is None if bias is None else bias,
        )
        init_kaiming_normal(self.conv, relu=relu)
        self.bn = nn.Identity() if norm is None else norm(out_channels)
        self.relu = relu

    def forward(self, x: Tensor, *, add: Tensor | None = None) -> Tensor:
        return conv_norm(self.conv, self.bn, x, add=add, relu=self.relu)


class InvertedResidual(nn.Module):
    """Expand, filter per channel, project: (N, C, H, W) -> (N, D, H', W').

    The expansion alone has a ReLU, unless more is asked for. The input is added where the output
    has its shape.

    Args:
        in_channels: C.
        row: what the block is like.
        norm: makes a trained norm behind each convolution; with none they have biases.
        always_expand: whether an expansion of 1 has its 1x1 convolution, too.
        depthwise_norm: whether the depthwise convolution has a norm where others have one.
        depthwise_relu: whether it has a ReLU.
        width_divisor: its channels are rounded to a multiple of this.
    """

    def __init__(
        self,
        in_channels: int,
        row: Block,
        *,
        norm: NormFactory | None = None,
        always_expand: bool = False,
        depthwise_norm: bool = True,
        depthwise_relu: bool = False,
        width_divisor: int = 1,
    ) -> None:
        super().__init__()
        width = divisible_width(in_channels * row.expansion, width_divisor)
        self.pw = None
        if always_expand or row.expansion != 1:
            self.pw = ConvBlock(in_channels, width, relu=True, norm=norm)
        self.dw = ConvBlock(
            width,
            width,
            kernel=row.kernel,
            stride=row.stride,
            groups=width,
            relu=depthwise_relu,
            norm=norm if depthwise_norm else None,
            bias=norm is None,
        )
        self.pwl = ConvBlock(width, row.channels, norm=norm)
        self.upsample = row.upsample
        self.residual = in_channels == row.channels and row.stride == 1 and not row.upsample

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.pw is None else self.pw(x)
        if self.upsample:
            y = F.interpolate(y, scale_factor=2.0, mode="nearest")
        return self.pwl(self.dw(y), add=x if self.residual else None)
