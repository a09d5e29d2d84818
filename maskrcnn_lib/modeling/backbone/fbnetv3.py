"""FBNetV3-A as D2Go uses it: body, RPN features, box head and mask head, all of one kind of block.

Method: Dai et al. 2020, arXiv:2006.02049 (FBNetV3), on the inverted residuals of Sandler et al.
2018, arXiv:1801.04381. The tables give kernel, expansion, output channels, stride and upsampling of
each block; parameter names are D2Go's (``trunk3.fbnetv2_3_4.pwl.conv.weight``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from maskrcnn_lib.modeling.backbone.inverted_residual import Block, ConvBlock, InvertedResidual
from maskrcnn_lib.modeling.make_layers import NormFactory, freeze_batch_norms
from maskrcnn_lib.modeling.norms import named_norm_factory

if TYPE_CHECKING:
    from yacs.config import CfgNode

# Attribute of an Architecture, by the head's key below MODEL.
_HEADS = {"RPN": "rpn", "ROI_BOX_HEAD": "box", "ROI_MASK_HEAD": "mask", "ROI_KEYPOINT_HEAD": "mask"}


@dataclass(frozen=True)
class Architecture:
    """Blocks of a detector: the stem convolution, then rows per body stage and per head.

    Attributes:
        stem_channels: output channels of the 3x3 convolution, stride 2, in front of stage 0.
        body: rows of stages 0 to 3, stride 16 altogether.
        rpn: rows in front of the RPN's predictors.
        box: rows between the pooled RoI and the box predictor's average.
        mask: rows between the pooled RoI and the mask or keypoint predictor.
    """

    stem_channels: int
    body: tuple[tuple[Block, ...], ...]
    rpn: tuple[Block, ...]
    box: tuple[Block, ...]
    mask: tuple[Block, ...]


def _fbnetv3a(*, body: Sequence[int], head: int, box: int, mask: int) -> Architecture:
    """The FBNetV3-A pattern for given widths of the body's parts and of the heads."""
    c0, c1, c2, c3, c4 = body
    return Architecture(
        stem_channels=c0,
        body=(
            (Block(3, 1, c0),),
            (Block(5, 4, c1, stride=2), Block(5, 2, c1)),
            (Block(5, 4, c2, stride=2), *[Block(3, 3, c2)] * 3),
            (
                Block(5, 4, c3, stride=2),
                *[Block(3, 3, c3)] * 3,
                *[Block(5, 4, c4)] * 4,
            ),
        ),
        rpn=(Block(5, 4, c4),) * 3,
        box=(Block(3, 4, head, stride=2), *[Block(3, 6, head)] * 2, Block(3, 6, box)),
        mask=(
            Block(3, 4, head, stride=2),
            *[Block(3, 6, head)] * 2,
            Block(3, 6, head, upsample=True),
            Block(3, 3, mask, upsample=True),
        ),
    )


# By the name that MODEL.BACKBONE.CONV_BODY gives.
ARCHITECTURES: dict[str, Architecture] = {
    "FBNetV3-A-C4": _fbnetv3a(body=(16, 32, 40, 72, 112), head=128, box=160, mask=64),
    "FBNetV3-A-dsmask-C4": _fbnetv3a(body=(16, 24, 32, 56, 88), head=96, box=120, mask=48),
}


def get_architecture(name: str) -> Architecture:
    """Returns the architecture of that name; raises ValueError naming the known ones."""
    if name not in ARCHITECTURES:
        raise ValueError(f"{name!r} is no FBNetV3 architecture; there are {sorted(ARCHITECTURES)}")
    return ARCHITECTURES[name]


class BlockStack(nn.Sequential):
    """Blocks named ``fbnetv2_{stage}_{i}`` one behind the other: (N, C, H, W) -> (N, D, H', W').

    Args:
        in_channels: C.
        rows: the blocks; the last gives D, which stands on the stack as ``out_channels``.
        stage: number in the blocks' names; the stacks of the heads have 0.
        stem_channels: output channels of a 3x3 convolution with stride 2 in front, if any.
        norm: makes a trained norm behind each convolution; none by default.
    """

    def __init__(
        self,
        in_channels: int,
        rows: Sequence[Block],
        *,
        stage: int = 0,
        stem_channels: int | None = None,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = in_channels
        if stem_channels is not None:
            stem = ConvBlock(channels, stem_channels, kernel=3, stride=2, relu=True, norm=norm)
            blocks.append(stem)
            channels = stem_channels
        for row in rows:
            blocks.append(InvertedResidual(channels, row, norm=norm))
            channels = row.channels
        for index, block in enumerate(blocks):
            self.add_module(f"fbnetv2_{stage}_{index}", block)
        self.out_channels = channels


class FBNetV3Body(nn.Module):
    """Stages ``trunk0`` .. ``trunk3``: images (N, 3, H, W) -> [(N, C, H/16, W/16)].

    Args:
        architecture: channels of the stem and rows of the stages.
        in_channels: channels of the images.
        freeze_at: this many stages, counted from the first, are not trained; batch norms in them
            become frozen ones.
        norm: makes a trained norm behind each convolution; none by default.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        in_channels: int = 3,
        freeze_at: int = 0,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__()
        channels = in_channels
        for stage, rows in enumerate(architecture.body):
            stem = architecture.stem_channels if stage == 0 else None
            trunk = BlockStack(channels, rows, stage=stage, stem_channels=stem, norm=norm)
            self.add_module(f"trunk{stage}", trunk)
            channels = trunk.out_channels
            if stage < freeze_at:
                freeze_batch_norms(trunk)
                trunk.requires_grad_(False)
        self.out_channels = channels

    def forward(self, x: Tensor) -> list[Tensor]:
        for trunk in self.children():
            x = trunk(x)
        return [x]


def build_fbnetv3_head(cfg: "CfgNode", in_channels: int, head: str) -> BlockStack:
    """The head's blocks in the architecture that ``MODEL.BACKBONE.CONV_BODY`` names.

    Args:
        cfg: the whole config.
        in_channels: of the feature maps.
        head: key of the head's config below ``MODEL``, such as ``RPN``.
    """
    architecture = get_architecture(cfg.MODEL.BACKBONE.CONV_BODY)
    rows = getattr(architecture, _HEADS[head])
    return BlockStack(in_channels, rows, norm=named_norm_factory(cfg))
