"""Feature pyramid network (Lin et al. 2016, arXiv:1612.03144)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from maskrcnn_lib.modeling.make_layers import NormFactory, make_conv


class FPN(nn.Module):
    """Adds to each map what the coarser maps know, and brings all to one number of channels.

    Parameter names: ``fpn_inner{i}`` (1x1) and ``fpn_layer{i}`` (3x3), i = 1 for the finest map.

    Args:
        in_channels: channels of the input maps, finest first.
        out_channels: channels of every output map.
        norm: makes a norm behind each convolution, which then has no bias; none by default.
        relu: whether a ReLU follows each convolution.
        top_block: makes further maps from the coarsest output; none by default.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        norm: NormFactory | None = None,
        relu: bool = False,
        top_block: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.num_levels = len(in_channels)
        for level, channels in enumerate(in_channels, start=1):
            inner = make_conv(channels, out_channels, kernel_size=1, norm=norm, relu=relu)
            layer = make_conv(out_channels, out_channels, kernel_size=3, norm=norm, relu=relu)
            self.add_module(f"fpn_inner{level}", inner)
            self.add_module(f"fpn_layer{level}", layer)
        self.top_blocks = top_block
        self.out_channels = out_channels

    def forward(self, x: Sequence[Tensor]) -> list[Tensor]:
        """Maps (N, C_i, H_i, W_i), finest first -> maps (N, D, H_i, W_i), then the top block's.

        A coarser map is brought to the finer map's size by its nearest pixel: twice the size where
        the image's sides divide by the coarsest stride, and right for odd sizes as well.
        """
        top_down = None
        outputs = []
        for level in range(self.num_levels, 0, -1):
            inner = getattr(self, f"fpn_inner{level}")(x[level - 1])
            if top_down is not None:
                inner = inner + F.interpolate(top_down, size=inner.shape[-2:], mode="nearest")
            top_down = inner
            outputs.append(getattr(self, f"fpn_layer{level}")(inner))
        outputs.reverse()
        return outputs if self.top_blocks is None else outputs + self.top_blocks(outputs[-1])


class LastLevelMaxPool(nn.Module):
    """One coarser map, every second pixel of the coarsest: (N, D, H, W) -> [(N, D, H/2, W/2)]."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [F.max_pool2d(x, kernel_size=1, stride=2)]
