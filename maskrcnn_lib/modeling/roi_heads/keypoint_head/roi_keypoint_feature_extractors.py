"""From regions of the feature maps to what the keypoint predictor reads."""

from yacs.config import CfgNode

from maskrcnn_lib.modeling import registry
from maskrcnn_lib.modeling.backbone.fbnetv3 import build_fbnetv3_mask_feature
from maskrcnn_lib.modeling.norms import named_norm_factory
from maskrcnn_lib.modeling.poolers import build_pooler
from maskrcnn_lib.modeling.roi_heads.box_head.roi_box_feature_extractors import (
    BlocksROIFeatureExtractor,
)
from maskrcnn_lib.modeling.roi_heads.mask_head.roi_mask_feature_extractors import (
    MaskRCNNFPNFeatureExtractor,
)


@registry.ROI_KEYPOINT_FEATURE_EXTRACTORS.register("KeypointRCNNFeatureExtractor")
def build_keypoint_extractor(cfg: CfgNode, in_channels: int) -> MaskRCNNFPNFeatureExtractor:
    """One convolution per entry of ``MODEL.ROI_KEYPOINT_HEAD.CONV_LAYERS``: ``conv_fcn1``, ..."""
    return MaskRCNNFPNFeatureExtractor(
        build_pooler(cfg, "ROI_KEYPOINT_HEAD"),
        in_channels,
        channels=cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_LAYERS,
        layer_name="conv_fcn",
    )


@registry.ROI_KEYPOINT_FEATURE_EXTRACTORS.register("FBNetV3.keypoint_head")
def build_fbnetv3_keypoint_extractor(cfg: CfgNode, in_channels: int) -> BlocksROIFeatureExtractor:
    """The keypoint blocks, which are the mask head's, of ``MODEL.BACKBONE.CONV_BODY``."""
    blocks = build_fbnetv3_mask_feature(
        in_channels,
        architecture=cfg.MODEL.BACKBONE.CONV_BODY,
        norm=named_norm_factory(cfg),
    )
    pooler = build_pooler(cfg, "ROI_KEYPOINT_HEAD")
    return BlocksROIFeatureExtractor(pooler, blocks, out_channels=blocks.out_channels)
