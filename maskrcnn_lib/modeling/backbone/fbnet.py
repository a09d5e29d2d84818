"""FBNet and ChamNet detectors of maskrcnn-benchmark: body, RPN features and heads of one table.

The tables are in ``fbnet_architectures``. Parameter names are maskrcnn-benchmark's
(``stages.xif3_4.pwl.conv.weight``). Nothing is frozen: these models learn from scratch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from maskrcnn_lib.layers.batch_norm import FrozenBatchNorm2d
from maskrcnn_lib.modeling.backbone.fbnet_architectures import (
    FBNET_ARCHITECTURES,
    FBNetArchitecture,
    parse_architecture,
)
from maskrcnn_lib.modeling.backbone.inverted_residual import (
    Block,
    ConvBlock,
    InvertedResidual,
    divisible_width,
)
from maskrcnn_lib.modeling.make_layers import NormFactory
from maskrcnn_lib.modeling.norms import group_norm_factory, named_norm_factory

if TYPE_CHECKING:
    from yacs.config import CfgNode

# Part of an architecture, and prefix of its keys in MODEL.FBNET, by the head's config.
_HEADS = {
    "ROI_BOX_HEAD": ("bbox", "DET"),
    "ROI_MASK_HEAD": ("mask", "MASK"),
    "ROI_KEYPOINT_HEAD": ("kpts", "KPTS"),
}


class NamedBlocks(nn.Sequential):
    """Inverted residuals one behind the other: (N, C, H, W) -> (N, D, H', W').

    Args:
        in_channels: C.
        rows: the blocks by name; the last gives D, which stands here as ``out_channels``.
        norm: makes a trained norm behind each convolution; with none they have biases.
        last_channels: of a 1x1 convolution named ``last`` behind the blocks; 0 for none.
        options: further arguments of all blocks, see ``InvertedResidual``.
    """

    def __init__(
        self,
        in_channels: int,
        rows: Mapping[str, Block],
        *,
        norm: NormFactory | None = None,
        last_channels: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        channels = in_channels
        for name, row in rows.items():
            self.add_module(name, InvertedResidual(channels, row, norm=norm, **options))
            channels = row.channels
        if last_channels:
            self.last = ConvBlock(channels, last_channels, relu=True, norm=norm)
            channels = last_channels
        self.out_channels = channels


class FBNetBody(nn.Module):
    """A stem and the stages of an architecture's backbone: images (N, 3, H, W) -> [one map].

    Args:
        architecture: its ``first`` and its backbone.
        in_channels: channels of the images.
        norm: makes a trained norm behind each convolution; with none they have biases.
        options: further arguments of all blocks, see ``InvertedResidual``.
    """

    def __init__(
        self,
        architecture: FBNetArchitecture,
        *,
        in_channels: int = 3,
        norm: NormFactory | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        channels, stride = architecture.first
        self.first = ConvBlock(in_channels, channels, kernel=3, stride=stride, relu=True, norm=norm)
        rows = architecture.blocks("backbone")
        self.stages = NamedBlocks(channels, rows, norm=norm, **options)
        self.out_channels = self.stages.out_channels

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.stages(self.first(x))]


def build_fbnet_body(cfg: "CfgNode") -> FBNetBody:
    """The backbone that ``MODEL.FBNET`` describes; ``FREEZE_CONV_BODY_AT`` means nothing to it."""
    return FBNetBody(build_fbnet_architecture(cfg), **_block_options(cfg))


def build_fbnet_rpn_feature(cfg: "CfgNode", in_channels: int) -> NamedBlocks:
    """The blocks in front of the RPN's predictors that ``MODEL.FBNET`` describes.

    Raises:
        ValueError: the architecture has none, or fewer than ``RPN_HEAD_BLOCKS``.
    """
    keys = cfg.MODEL.FBNET
    rows = build_fbnet_architecture(cfg).blocks("rpn")
    wanted = keys.RPN_HEAD_BLOCKS or len(rows)
    if not 0 < wanted <= len(rows):
        raise ValueError(f"MODEL.FBNET.RPN_HEAD_BLOCKS is {wanted}, there are {len(rows)} blocks")
    last_rows = dict(islice(rows.items(), len(rows) - wanted, None))
    return NamedBlocks(in_channels, last_rows, **_block_options(cfg, keys.RPN_BN_TYPE))


def build_fbnet_head(cfg: "CfgNode", in_channels: int, head: str) -> NamedBlocks:
    """The blocks of a head that ``MODEL.FBNET`` describes: (R, C, P, P) -> (R, D, P', P').

    Args:
        in_channels: C.
        head: key of the head's config below ``MODEL``.

    Raises:
        ValueError: the architecture has none for this head, or not those that are asked for.
    """
    keys, (part, prefix) = cfg.MODEL.FBNET, _HEADS[head]
    architecture = build_fbnet_architecture(cfg)
    rows = _chosen(architecture.blocks(part), keys[f"{prefix}_HEAD_BLOCKS"])
    if stride := keys[f"{prefix}_HEAD_STRIDE"]:
        name, first = next(iter(rows.items()))
        rows[name] = replace(first, stride=stride, upsample=False)
    scale = keys[f"{prefix}_HEAD_LAST_SCALE"]
    same = next(reversed(rows.values())).channels
    last = int(architecture.last * scale) if scale > 0 else int(same * -scale)
    if last:
        last = divisible_width(last, keys.WIDTH_DIVISOR)
    return NamedBlocks(in_channels, rows, last_channels=last, **_block_options(cfg))


def _chosen(rows: Mapping[str, Block], wanted: Sequence[int]) -> dict[str, Block]:
    """The rows of these numbers; all of them where none is wanted."""
    if not set(wanted) <= set(range(len(rows))):
        raise ValueError(
            f"MODEL.FBNET.*_HEAD_BLOCKS is {wanted}, but there are blocks 0 to {len(rows) - 1}"
        )
    numbered = enumerate(rows.items())
    return {name: row for index, (name, row) in numbered if not wanted or index in wanted}


def build_fbnet_architecture(cfg: "CfgNode") -> FBNetArchitecture:
    """The architecture of ``MODEL.FBNET.ARCH_DEF`` or, without one, of that name, scaled.

    Raises:
        ValueError: the name is not known, or the definition no architecture.
    """
    keys = cfg.MODEL.FBNET
    if keys.ARCH_DEF:
        architecture = parse_architecture(keys.ARCH_DEF)
    elif keys.ARCH in FBNET_ARCHITECTURES:
        architecture = FBNET_ARCHITECTURES[keys.ARCH]
    else:
        raise ValueError(
            f"MODEL.FBNET.ARCH {keys.ARCH!r} is unknown; choose one of "
            f"{sorted(FBNET_ARCHITECTURES)}, or give a definition in MODEL.FBNET.ARCH_DEF"
        )
    return architecture.scaled(keys.SCALE_FACTOR, keys.WIDTH_DIVISOR)


def _block_options(cfg: "CfgNode", bn_type: str = "") -> dict[str, Any]:
    keys = cfg.MODEL.FBNET
    return {
        "norm": _norm(cfg, bn_type or keys.BN_TYPE),
        "always_expand": True,
        "depthwise_norm": not keys.DW_CONV_SKIP_BN,
        "depthwise_relu": not keys.DW_CONV_SKIP_RELU,
        "width_divisor": keys.WIDTH_DIVISOR,
    }


def _norm(cfg: "CfgNode", bn_type: str) -> NormFactory | None:
    """``MODEL.NORM`` where it says something, else what maskrcnn-benchmark calls ``bn_type``."""
    if cfg.MODEL.NORM:
        return named_norm_factory(cfg)
    factories: dict[str, NormFactory] = {
        "bn": nn.BatchNorm2d,
        "gn": group_norm_factory(cfg),
        "af": FrozenBatchNorm2d,
    }
    if bn_type not in factories:
        raise ValueError(f"MODEL.FBNET.BN_TYPE {bn_type!r} is none of {sorted(factories)}")
    return factories[bn_type]
