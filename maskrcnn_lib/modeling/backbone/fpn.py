"""Feature pyramid network (Lin et al. 2016, arXiv:1612.03144)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrcnn_lib.modeling.fuse import convolve
from maskrcnn_lib.modeling.make_layers import NormFactory, make_conv


class FPN(nn.Module):
    """Adds to each map what the coarser maps know, and brings all to one number of channels.

    Parameter names: ``fpn_inner{i}`` (1x1) and ``fpn_layer{i}`` (3x3), where i is the stage of the
    body that the map comes from: 1 for the finest map, if it is of the first stage.

    Args:
        in_channels: channels of the input maps, finest first.
        out_channels: channels of every output map.
        norm: makes a norm behind each convolution, which then has no bias; none by default.
        relu: whether a ReLU follows each convolution.
        top_block: makes further maps from the coarsest input and output; none by default.
        first_stage: stage of the body that the finest map comes from.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        norm: NormFactory | None = None,
        relu: bool = False,
        top_block: nn.Module | None = None,
        first_stage: int = 1,
    ) -> None:
        super().__init__()
        self.stages = range(first_stage, first_stage + len(in_channels))
        for level, channels in zip(self.stages, in_channels, strict=True):
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
        for level, finer in zip(reversed(self.stages), reversed(x), strict=True):
            coarser = None if top_down is None else _enlarged(top_down, finer.shape[-2:])
            top_down = convolve(getattr(self, f"fpn_inner{level}"), finer, add=coarser)
            outputs.append(convolve(getattr(self, f"fpn_layer{level}"), top_down))
        outputs.reverse()
        return outputs if self.top_blocks is None else outputs + self.top_blocks(x[-1], outputs[-1])


def _enlarged(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Each pixel's nearest one, in the dtype of x: autocast would make it float32."""
    if x.is_meta or not torch.is_autocast_enabled(x.device.type):
        return F.interpolate(x, size=size, mode="nearest")
    with torch.autocast(x.device.type, enabled=False):
        return F.interpolate(x, size=size, mode="nearest")


class LastLevelMaxPool(nn.Module):
    """One coarser map, every second pixel of the coarsest: (N, D, H, W) -> [(N, D, H/2, W/2)]."""

    def forward(self, body_map: Tensor, pyramid_map: Tensor) -> list[Tensor]:
        """Takes the coarsest maps of the body, which is not used, and of the pyramid."""
        return [F.max_pool2d(pyramid_map, kernel_size=1, stride=2)]


class LastLevelP6P7(nn.Module):
    """RetinaNet's two coarser maps: a convolution of stride 2, ReLU, and another one.

    Args:
        in_channels: channels of the map that P6 is made from.
        out_channels: channels of P6 and P7.
        from_body: whether P6 is made from the coarsest map of the body (C5), or of the pyramid.
    """

    def __init__(self, in_channels: int, out_channels: int, *, from_body: bool) -> None:
        super().__init__()
        self.p6 = make_conv(in_channels, out_channels, stride=2)
        self.p7 = make_conv(out_channels, out_channels, stride=2)
        self.from_body = from_body

    def forward(self, body_map: Tensor, pyramid_map: Tensor) -> list[Tensor]:
        """Returns [(N, D, H/2, W/2), (N, D, H/4, W/4)] for the coarsest maps (N, C, H, W)."""
        p6 = self.p6(body_map if self.from_body else pyramid_map)
        return [p6, self.p7(F.relu(p6))]
