"""From regions of the feature maps to what the box predictor reads."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn
from yacs.config import CfgNode

from maskrcnn_lib.modeling import registry
from maskrcnn_lib.modeling.backbone.backbone import build_resnet_head
from maskrcnn_lib.modeling.backbone.fbnet import build_fbnet_head
from maskrcnn_lib.modeling.backbone.fbnetv3 import build_fbnetv3_head
from maskrcnn_lib.modeling.fuse import convolve
from maskrcnn_lib.modeling.make_layers import NormFactory, init_normal, make_conv, make_fc
from maskrcnn_lib.modeling.norms import group_norm_factory, part_norm_factory
from maskrcnn_lib.modeling.poolers import Pooler, build_pooler


class PooledFeatureExtractor(nn.Module):
    """Layers on each region, which a pooler cuts out of the feature maps before.

    Args:
        pooler: cuts the regions out.
        out_channels: channels of what comes out.
    """

    def __init__(self, pooler: Pooler, out_channels: int) -> None:
        super().__init__()
        self.pooler = pooler
        self.out_channels = out_channels

    def forward(self, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Returns what ``convolve`` makes of the regions.

        Args:
            features: the backbone's maps (N, C, H, W), finest first.
            rois: (K, 5) index of the image, then xyxy in pixels.
        """
        return self.convolve(self.pooler(features, rois))

    def convolve(self, x: Tensor) -> Tensor:
        """The layers, on regions (K, C, P, P) that were cut out already."""
        raise NotImplementedError


class ResNetROIFeatureExtractor(PooledFeatureExtractor):
    """The last stage of a ResNet, run on each region (the C4 detectors).

    Args:
        pooler: cuts the regions out.
        head: maps (K, C, P, P) to (K, out_channels, P', P').
        out_channels: channels that the head returns.
    """

    def __init__(self, pooler: Pooler, head: nn.Module, *, out_channels: int) -> None:
        super().__init__(pooler, out_channels)
        self.head = head

    def convolve(self, x: Tensor) -> Tensor:
        return self.head(x)


class FPN2MLPFeatureExtractor(PooledFeatureExtractor):
    """Two linear layers on each region (the FPN detectors).

    Args:
        pooler: cuts the regions out.
        in_channels: channels of the feature maps.
        hidden_channels: width of both layers.
        norm: makes a norm behind each layer, which then has no bias; none by default.
    """

    def __init__(
        self,
        pooler: Pooler,
        in_channels: int,
        *,
        hidden_channels: int,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__(pooler, hidden_channels)
        height, width = pooler.output_size
        self.fc6 = make_fc(in_channels * height * width, hidden_channels, norm=norm)
        self.fc7 = make_fc(hidden_channels, hidden_channels, norm=norm)

    def convolve(self, x: Tensor) -> Tensor:
        return convolve(self.fc7, convolve(self.fc6, x.flatten(1), relu=True), relu=True)


class FPNXconv1fcFeatureExtractor(PooledFeatureExtractor):
    """3x3 convolutions and one linear layer on each region (Wu & He 2018, arXiv:1803.08494).

    Args:
        pooler: cuts the regions out.
        in_channels: channels of the feature maps.
        channels: output channels of each convolution.
        hidden_channels: width of the linear layer.
        dilation: of all convolutions.
        norm: makes a norm behind each convolution, which then has no bias; none by default.
    """

    def __init__(
        self,
        pooler: Pooler,
        in_channels: int,
        *,
        channels: Sequence[int],
        hidden_channels: int,
        dilation: int = 1,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__(pooler, hidden_channels)
        layers: list[nn.Module] = []
        for width in channels:
            conv = make_conv(
                in_channels,
                width,
                dilation=dilation,
                norm=norm,
                relu=True,
                init=partial(init_normal, std=0.01),
            )
            layers += conv
            in_channels = width
        self.xconvs = nn.Sequential(*layers)
        height, width = pooler.output_size
        self.fc6 = make_fc(in_channels * height * width, hidden_channels)

    def convolve(self, x: Tensor) -> Tensor:
        return convolve(self.fc6, self.xconvs(x).flatten(1), relu=True)


class BlocksROIFeatureExtractor(PooledFeatureExtractor):
    """A stack of blocks on each region (the heads of FBNet and FBNetV3).

    Args:
        pooler: cuts the regions out.
        blocks: map (K, C, P, P) to (K, out_channels, P', P').
        out_channels: channels that the blocks return.
    """

    def __init__(self, pooler: Pooler, blocks: nn.Module, *, out_channels: int) -> None:
        super().__init__(pooler, out_channels)
        self.blocks = blocks

    def convolve(self, x: Tensor) -> Tensor:
        return self.blocks(x)


def build_blocks_extractor(
    cfg: CfgNode, in_channels: int, *, head: str, build_head: Callable[..., nn.Module]
) -> BlocksROIFeatureExtractor:
    """Blocks of an architecture behind a head's pooler.

    Args:
        cfg: the whole config.
        in_channels: of the feature maps.
        head: key of the head's config below ``MODEL``.
        build_head: ``build_fbnet_head`` or ``build_fbnetv3_head``.
    """
    blocks = build_head(cfg, in_channels, head)
    pooler = build_pooler(cfg, head)
    return BlocksROIFeatureExtractor(pooler, blocks, out_channels=blocks.out_channels)


@registry.ROI_BOX_FEATURE_EXTRACTORS.register("ResNet50Conv5ROIFeatureExtractor")
def build_resnet_extractor(cfg: CfgNode, in_channels: int) -> ResNetROIFeatureExtractor:
    """layer4 of the ResNet that ``MODEL.RESNETS`` describes, behind the box head's pooler."""
    head = build_resnet_head(cfg)
    pooler = build_pooler(cfg, "ROI_BOX_HEAD")
    return ResNetROIFeatureExtractor(pooler, head, out_channels=head.out_channels)


@registry.ROI_BOX_FEATURE_EXTRACTORS.register("FPN2MLPFeatureExtractor")
def build_fpn_2mlp_extractor(cfg: CfgNode, in_channels: int) -> FPN2MLPFeatureExtractor:
    """Two linear layers of width ``MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM``."""
    head = cfg.MODEL.ROI_BOX_HEAD
    return FPN2MLPFeatureExtractor(
        build_pooler(cfg, "ROI_BOX_HEAD"),
        in_channels,
        hidden_channels=head.MLP_HEAD_DIM,
        norm=group_norm_factory(cfg) if head.USE_GN else None,
    )


@registry.ROI_BOX_FEATURE_EXTRACTORS.register("FPNXconv1fcFeatureExtractor")
def build_fpn_xconv1fc_extractor(cfg: CfgNode, in_channels: int) -> FPNXconv1fcFeatureExtractor:
    """``NUM_STACKED_CONVS`` convolutions and one linear layer, as ``MODEL.ROI_BOX_HEAD`` says."""
    head = cfg.MODEL.ROI_BOX_HEAD
    return FPNXconv1fcFeatureExtractor(
        build_pooler(cfg, "ROI_BOX_HEAD"),
        in_channels,
        channels=[head.CONV_HEAD_DIM] * head.NUM_STACKED_CONVS,
        hidden_channels=head.MLP_HEAD_DIM,
        dilation=head.DILATION,
        norm=part_norm_factory(cfg, "ROI_BOX_HEAD"),
    )


registry.ROI_BOX_FEATURE_EXTRACTORS.register(
    "FBNetV3.box_head",
    partial(build_blocks_extractor, head="ROI_BOX_HEAD", build_head=build_fbnetv3_head),
)
registry.ROI_BOX_FEATURE_EXTRACTORS.register(
    "FBNet.roi_head",
    partial(build_blocks_extractor, head="ROI_BOX_HEAD", build_head=build_fbnet_head),
)
