"""ResNet and ResNeXt bodies (He et al. 2015, arXiv:1512.03385; Xie et al. 2016, arXiv:1611.05431).

Parameter names are torchvision's and maskrcnn-benchmark's (``layer3.0.conv2.weight``), with the
stem under ``stem``. Every convolution is followed by a norm, by default the frozen one, which
``conv_norm`` folds into the convolution's weights.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from maskrcnn_lib.layers.batch_norm import FrozenBatchNorm2d
from maskrcnn_lib.layers.deform_conv import Deformation, DFConv2d
from maskrcnn_lib.modeling.fuse import conv_norm, scaled_at_once
from maskrcnn_lib.modeling.make_layers import (
    NormFactory,
    freeze_batch_norms,
    init_kaiming_uniform,
)

# Blocks in layer1 to layer4, by depth.
RESNET_BLOCKS: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


class Stem(nn.Module):
    """7x7 convolution and max pool: (N, 3, H, W) -> (N, C, ~H/4, ~W/4)."""

    conv_norm_pairs = (("conv1", "bn1"),)

    def __init__(self, out_channels: int, *, norm: NormFactory = FrozenBatchNorm2d) -> None:
        super().__init__()
        self.conv1 = _conv(3, out_channels, 7, stride=2)
        self.bn1 = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = conv_norm(self.conv1, self.bn1, x, relu=True)
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution around a shortcut: (N, C, H, W) -> (N, D, H/stride, W/stride).

    Args:
        in_channels: C.
        out_channels: D; where it differs from C the shortcut has a convolution of its own.
        bottleneck_channels: width of the 3x3 convolution, all groups together.
        num_groups: groups of the 3x3 convolution; more than one makes a ResNeXt.
        stride: 1 or 2.
        stride_in_1x1: whether the first 1x1 convolution carries the stride (the MSRA weights) or
            the 3x3 does (torchvision's and all ResNeXt weights).
        dilation: of the 3x3 convolution.
        deformation: makes the 3x3 convolution a deformable one.
        norm: makes a norm for a number of channels.
    """

    conv_norm_pairs = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        num_groups: int = 1,
        stride: int = 1,
        stride_in_1x1: bool = True,
        dilation: int = 1,
        deformation: Deformation | None = None,
        norm: NormFactory = FrozenBatchNorm2d,
    ) -> None:
        super().__init__()
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.downsample = None
        if in_channels != out_channels:
            self.downsample = nn.Sequential(
                _conv(in_channels, out_channels, 1, stride=stride), norm(out_channels)
            )
        self.conv1 = _conv(in_channels, bottleneck_channels, 1, stride=stride_1x1)
        self.bn1 = norm(bottleneck_channels)
        self.conv2 = _conv(
            bottleneck_channels,
            bottleneck_channels,
            3,
            stride=stride_3x3,
            dilation=dilation,
            groups=num_groups,
            deformation=deformation,
        )
        self.bn2 = norm(bottleneck_channels)
        self.conv3 = _conv(bottleneck_channels, out_channels, 1)
        self.bn3 = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else conv_norm(*self.downsample, x)
        y = conv_norm(self.conv1, self.bn1, x, relu=True)
        y = conv_norm(self.conv2, self.bn2, y, relu=True)
        # A shortcut with a convolution is used here alone.
        overwrite = self.downsample is not None
        return conv_norm(self.conv3, self.bn3, y, add=shortcut, overwrite=overwrite, relu=True)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut: (N, C, H, W) -> (N, D, H/stride, W/stride).

    Args:
        in_channels: C.
        out_channels: D; where it differs from C the shortcut has a convolution of its own.
        stride: 1 or 2, of the first convolution.
        dilation: of the first convolution.
        norm: makes a norm for a number of channels.
    """

    conv_norm_pairs = (("conv1", "bn1"), ("conv2", "bn2"))

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: NormFactory = FrozenBatchNorm2d,
    ) -> None:
        super().__init__()
        self.downsample = None
        if in_channels != out_channels:
            self.downsample = nn.Sequential(
                _conv(in_channels, out_channels, 1, stride=stride), norm(out_channels)
            )
        self.conv1 = _conv(in_channels, out_channels, 3, stride=stride, dilation=dilation)
        self.bn1 = norm(out_channels)
        self.conv2 = _conv(out_channels, out_channels, 3)
        self.bn2 = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else conv_norm(*self.downsample, x)
        y = conv_norm(self.conv1, self.bn1, x, relu=True)
        overwrite = self.downsample is not None
        return conv_norm(self.conv2, self.bn2, y, add=shortcut, overwrite=overwrite, relu=True)


class ResNet(nn.Module):
    """Stem and stages ``layer1`` .. ``layerN``, returning the maps that are asked for.

    Args:
        blocks: number of blocks per stage, finest first; at most four stages.
        return_stages: numbers of the stages whose maps are returned (1 has stride 4, 4 stride 32);
            none means the last.
        stem_out_channels: channels behind the stem.
        res2_out_channels: channels of ``layer1`` (Detectron's res2); doubled in each later stage.
        num_groups: groups of the 3x3 convolutions.
        width_per_group: channels per group in ``layer1``; doubled in each later stage.
        stride_in_1x1: see Bottleneck.
        freeze_at: this many parts, counted from the stem, are not trained: 2 freezes the stem and
            ``layer1``; 0 or less freezes nothing. Batch norms in them become frozen ones.
        last_dilation: of the 3x3 convolutions of the last stage; with more than 1 it keeps the
            resolution of the stage before (a DC5 body).
        deformable_stages: numbers of the stages whose 3x3 convolutions are deformable.
        deformation: of which kind these are.
        basic: whether the blocks are basic ones, as in ResNet-18 and 34, and not bottlenecks.
            They have neither groups nor a width of their own.
        norm: makes a norm for a number of channels.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        return_stages: Sequence[int] = (),
        *,
        stem_out_channels: int = 64,
        res2_out_channels: int = 256,
        num_groups: int = 1,
        width_per_group: int = 64,
        stride_in_1x1: bool = True,
        last_dilation: int = 1,
        freeze_at: int = 0,
        deformable_stages: Collection[int] = (),
        deformation: Deformation | None = None,
        basic: bool = False,
        norm: NormFactory = FrozenBatchNorm2d,
    ) -> None:
        super().__init__()
        last = len(blocks)
        self.return_stages = tuple(return_stages) or (last,)
        if not set(self.return_stages) <= set(range(1, last + 1)):
            raise ValueError(f"return_stages {self.return_stages} of a body with {last} stages")
        self.stem = Stem(stem_out_channels, norm=norm)
        self.stages: list[str] = []
        channels = stem_out_channels
        for stage, count in enumerate(blocks, start=1):
            layer = make_stage(
                stage,
                count,
                channels,
                res2_out_channels=res2_out_channels,
                num_groups=num_groups,
                width_per_group=width_per_group,
                stride_in_1x1=stride_in_1x1,
                dilation=last_dilation if stage == last else 1,
                deformation=deformation if stage in deformable_stages else None,
                basic=basic,
                norm=norm,
            )
            channels = res2_out_channels * 2 ** (stage - 1)
            self.stages.append(f"layer{stage}")
            self.add_module(self.stages[-1], layer)
        self.out_channels = [res2_out_channels * 2 ** (s - 1) for s in self.return_stages]
        self._freeze(freeze_at)

    def _freeze(self, freeze_at: int) -> None:
        for name in ["stem", *self.stages][: max(freeze_at, 0)]:
            part = self.get_submodule(name)
            freeze_batch_norms(part)
            part.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Returns the maps of ``return_stages``, finest first, for images (N, 3, H, W)."""
        outputs = []
        x = self.stem(x)
        for stage, name in enumerate(self.stages, start=1):
            layer = getattr(self, name)
            with scaled_at_once(layer, x):
                x = layer(x)
            if stage in self.return_stages:
                outputs.append(x)
        return outputs


class ResNetHead(nn.Module):
    """``layer4`` applied to RoIs: (R, C, P, P) -> (R, 2C, P/2, P/2), as C4 detectors do.

    Args:
        blocks: number of bottlenecks.
        res2_out_channels: as in the body; C is four times as many.
        **options: of the stage, see ``make_stage``.
    """

    def __init__(self, blocks: int = 3, *, res2_out_channels: int = 256, **options: Any) -> None:
        super().__init__()
        channels = res2_out_channels * 4
        self.layer4 = make_stage(
            4, blocks, channels, res2_out_channels=res2_out_channels, **options
        )
        self.out_channels = channels * 2

    def forward(self, x: Tensor) -> Tensor:
        with scaled_at_once(self.layer4, x):
            return self.layer4(x)


def make_stage(
    stage: int,
    blocks: int,
    in_channels: int,
    *,
    res2_out_channels: int = 256,
    num_groups: int = 1,
    width_per_group: int = 64,
    stride_in_1x1: bool = True,
    dilation: int = 1,
    deformation: Deformation | None = None,
    basic: bool = False,
    norm: NormFactory = FrozenBatchNorm2d,
) -> nn.Sequential:
    """Stage ``layer{stage}`` of a ResNet: blocks, the first with stride 2 (1 in stage 1).

    With a dilation above 1 the first keeps the resolution instead. The other arguments are those
    of ``ResNet`` and of its blocks.

    Raises:
        ValueError: basic blocks are to have groups or deformable convolutions.
    """
    factor = 2 ** (stage - 1)
    out_channels = res2_out_channels * factor
    if basic and (num_groups > 1 or deformation is not None):
        raise ValueError("ResNet-18 and 34 have neither groups nor deformable convolutions")
    make: Callable[..., nn.Module] = BasicBlock
    if not basic:
        make = partial(
            Bottleneck,
            bottleneck_channels=num_groups * width_per_group * factor,
            num_groups=num_groups,
            stride_in_1x1=stride_in_1x1,
            deformation=deformation,
        )
    stride = 2 if stage > 1 and dilation == 1 else 1
    channels = [in_channels] + [out_channels] * (blocks - 1)
    strides = [stride] + [1] * (blocks - 1)
    return nn.Sequential(
        *(
            make(before, out_channels, stride=step, dilation=dilation, norm=norm)
            for before, step in zip(channels, strides, strict=True)
        )
    )


def _conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    deformation: Deformation | None = None,
) -> nn.Conv2d:
    shape = {"stride": stride, "dilation": dilation, "groups": groups, "bias": False}
    if deformation is None:
        padding = dilation * (kernel_size // 2)
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, **shape)
    else:
        conv = DFConv2d(
            in_channels,
            out_channels,
            kernel_size=kernel_size,
            with_modulated_dcn=deformation.modulated,
            deformable_groups=deformation.groups,
            **shape,
        )
    init_kaiming_uniform(conv)
    return conv
