"""YOLOF's neck: residual blocks whose growing dilations let one map see objects of all sizes
(Chen et al. 2021, You Only Look One-level Feature, arXiv:2103.09460, section 4.1)."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from maskrcnn_lib.modeling.fuse import conv_norm
from maskrcnn_lib.modeling.make_layers import NormFactory, init_normal, make_conv

_init_conv = partial(init_normal, std=0.01)


class DilatedBlock(nn.Module):
    """1x1, dilated 3x3 and 1x1 convolution, each with norm and ReLU, added to what came in.

    Args:
        channels: channels in and out.
        width: channels of the 3x3 convolution.
        dilation: of the 3x3 convolution.
        norm: makes a norm for a number of channels.
    """

    def __init__(self, channels: int, width: int, *, dilation: int, norm: NormFactory) -> None:
        super().__init__()
        options = {"norm": norm, "relu": True, "init": _init_conv}
        self.conv1 = make_conv(channels, width, kernel_size=1, **options)
        self.conv2 = make_conv(width, width, dilation=dilation, **options)
        self.conv3 = make_conv(width, channels, kernel_size=1, **options)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        return x + self.conv3(self.conv2(self.conv1(x)))


class DilatedEncoder(nn.Module):
    """Brings the coarsest map to fewer channels and lets it see far.

    Args:
        in_channels: channels of the map.
        out_channels: channels of the map that comes out.
        width: channels of the 3x3 convolutions in the blocks.
        dilations: one for each block.
        norm: makes a norm for a number of channels.
    """

    conv_norm_pairs = (("lateral_conv", "lateral_norm"), ("fpn_conv", "fpn_norm"))

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        dilations: Sequence[int],
        norm: NormFactory,
    ) -> None:
        super().__init__()
        # These two have biases although norms follow, as in mmdetection, whose files hold them.
        self.lateral_conv = make_conv(in_channels, out_channels, kernel_size=1)
        self.lateral_norm = norm(out_channels)
        self.fpn_conv = make_conv(out_channels, out_channels)
        self.fpn_norm = norm(out_channels)
        self.blocks = nn.Sequential(
            *(
                DilatedBlock(out_channels, width, dilation=dilation, norm=norm)
                for dilation in dilations
            )
        )
        self.out_channels = out_channels

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Returns one map (N, out_channels, H, W), of the size of the last of ``maps``."""
        x = conv_norm(self.lateral_conv, self.lateral_norm, maps[-1])
        x = conv_norm(self.fpn_conv, self.fpn_norm, x)
        return [self.blocks(x)]
