"""From regions of the feature maps to what the box predictor reads."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from yacs.config import CfgNode

from maskrcnn_lib.modeling import registry
from maskrcnn_lib.modeling.backbone.backbone import build_resnet_head
from maskrcnn_lib.modeling.backbone.fbnetv3 import build_fbnetv3_box_feature
from maskrcnn_lib.modeling.make_layers import make_fc
from maskrcnn_lib.modeling.poolers import Pooler, build_pooler


class ResNetROIFeatureExtractor(nn.Module):
    """The last stage of a ResNet, run on each region (the C4 detectors).

    Args:
        pooler: cuts the regions out.
        head: maps (K, C, P, P) to (K, out_channels, P', P').
        out_channels: channels that the head returns.
    """

    def __init__(self, pooler: Pooler, head: nn.Module, *, out_channels: int) -> None:
        super().__init__()
        self.pooler = pooler
        self.head = head
        self.out_channels = out_channels

    def forward(self, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Returns (K, out_channels, P', P').

        Args:
            features: the backbone's maps (N, C, H, W), finest first.
            rois: (K, 5) index of the image, then xyxy in pixels.
        """
        return self.head(self.pooler(features, rois))


class FPN2MLPFeatureExtractor(nn.Module):
    """Two linear layers on each region (the FPN detectors).

    Args:
        pooler: cuts the regions out.
        in_channels: channels of the feature maps.
        hidden_channels: width of both layers.
    """

    def __init__(self, pooler: Pooler, in_channels: int, *, hidden_channels: int) -> None:
        super().__init__()
        height, width = pooler.output_size
        self.pooler = pooler
        self.fc6 = make_fc(in_channels * height * width, hidden_channels)
        self.fc7 = make_fc(hidden_channels, hidden_channels)
        self.out_channels = hidden_channels

    def forward(self, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Returns (K, hidden_channels); arguments as in ResNetROIFeatureExtractor."""
        x = self.pooler(features, rois).flatten(1)
        return F.relu(self.fc7(F.relu(self.fc6(x))))


class BlocksROIFeatureExtractor(nn.Module):
    """A stack of blocks on each region (FBNetV3's box and mask heads).

    Args:
        pooler: cuts the regions out.
        blocks: map (K, C, P, P) to (K, out_channels, P', P').
        out_channels: channels that the blocks return.
    """

    def __init__(self, pooler: Pooler, blocks: nn.Module, *, out_channels: int) -> None:
        super().__init__()
        self.pooler = pooler
        self.blocks = blocks
        self.out_channels = out_channels

    def forward(self, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Returns (K, out_channels, P', P'); arguments as in ResNetROIFeatureExtractor."""
        return self.blocks(self.pooler(features, rois))


@registry.ROI_BOX_FEATURE_EXTRACTORS.register("ResNet50Conv5ROIFeatureExtractor")
def build_resnet_extractor(cfg: CfgNode, in_channels: int) -> ResNetROIFeatureExtractor:
    """layer4 of the ResNet that ``MODEL.RESNETS`` describes, behind the box head's pooler."""
    head = build_resnet_head(cfg)
    pooler = build_pooler(cfg, "ROI_BOX_HEAD")
    return ResNetROIFeatureExtractor(pooler, head, out_channels=head.out_channels)


@registry.ROI_BOX_FEATURE_EXTRACTORS.register("FPN2MLPFeatureExtractor")
def build_fpn_2mlp_extractor(cfg: CfgNode, in_channels: int) -> FPN2MLPFeatureExtractor:
    """Two linear layers of width ``MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM``."""
    if cfg.MODEL.ROI_BOX_HEAD.USE_GN:
        raise ValueError(
            "MODEL.ROI_BOX_HEAD.USE_GN: group norm in the box head is not available in this "
            "version; set it to False"
        )
    return FPN2MLPFeatureExtractor(
        build_pooler(cfg, "ROI_BOX_HEAD"),
        in_channels,
        hidden_channels=cfg.MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM,
    )


@registry.ROI_BOX_FEATURE_EXTRACTORS.register("FBNetV3.box_head")
def build_fbnetv3_box_extractor(cfg: CfgNode, in_channels: int) -> BlocksROIFeatureExtractor:
    """The box blocks that belong to the FBNetV3 body of ``MODEL.BACKBONE.CONV_BODY``."""
    blocks = build_fbnetv3_box_feature(in_channels, architecture=cfg.MODEL.BACKBONE.CONV_BODY)
    pooler = build_pooler(cfg, "ROI_BOX_HEAD")
    return BlocksROIFeatureExtractor(pooler, blocks, out_channels=blocks.out_channels)
