"""From regions of the feature maps to what the keypoint predictor reads."""

from functools import partial

from yacs.config import CfgNode

from maskrcnn_lib.modeling import registry
from maskrcnn_lib.modeling.backbone.fbnet import build_fbnet_head
from maskrcnn_lib.modeling.backbone.fbnetv3 import build_fbnetv3_head
from maskrcnn_lib.modeling.poolers import build_pooler
from maskrcnn_lib.modeling.roi_heads.box_head.roi_box_feature_extractors import (
    build_blocks_extractor,
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


registry.ROI_KEYPOINT_FEATURE_EXTRACTORS.register(
    "FBNetV3.keypoint_head",
    partial(build_blocks_extractor, head="ROI_KEYPOINT_HEAD", build_head=build_fbnetv3_head),
)
registry.ROI_KEYPOINT_FEATURE_EXTRACTORS.register(
    "FBNet.roi_head_keypoints",
    partial(build_blocks_extractor, head="ROI_KEYPOINT_HEAD", build_head=build_fbnet_head),
)
