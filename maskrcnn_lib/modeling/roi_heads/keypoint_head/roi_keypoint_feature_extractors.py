"""From regions of the feature maps to what the keypoint predictor reads."""

from yacs.config import CfgNode

from maskrcnn_lib.modeling import registry
from maskrcnn_lib.modeling.backbone.fbnetv3 import build_fbnetv3_mask_feature
from maskrcnn_lib.modeling.poolers import build_pooler
from maskrcnn_lib.modeling.roi_heads.box_head.roi_box_feature_extractors import (
    BlocksROIFeatureExtractor,
    build_fbnet_extractor,
    build_fbnetv3_extractor,
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
    return build_fbnetv3_extractor(
        cfg, in_channels, "ROI_KEYPOINT_HEAD", build_fbnetv3_mask_feature
    )


@registry.ROI_KEYPOINT_FEATURE_EXTRACTORS.register("FBNet.roi_head_keypoints")
def build_fbnet_keypoint_extractor(cfg: CfgNode, in_channels: int) -> BlocksROIFeatureExtractor:
    """The keypoint blocks of the architecture that ``MODEL.FBNET`` describes."""
    return build_fbnet_extractor(cfg, in_channels, "ROI_KEYPOINT_HEAD")
