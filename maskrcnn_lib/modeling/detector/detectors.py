"""From a config to a model."""

from torch import nn
from yacs.config import CfgNode

from maskrcnn_lib.modeling.backbone import build_backbone
from maskrcnn_lib.modeling.detector.generalized_rcnn import GeneralizedRCNN
from maskrcnn_lib.modeling.roi_heads.roi_heads import build_roi_heads
from maskrcnn_lib.modeling.rpn.rpn import build_rpn


def build_detection_model(cfg: CfgNode) -> nn.Module:
    """Builds the model that the config describes, with random weights, on the CPU.

    Raises:
        ValueError: ``MODEL.META_ARCHITECTURE`` or an option is not available.
        KeyError: a part that the config names is not registered.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    if name != "GeneralizedRCNN":
        raise ValueError(f"MODEL.META_ARCHITECTURE {name!r} is unknown; use 'GeneralizedRCNN'")
    backbone = build_backbone(cfg)
    rpn = build_rpn(cfg, backbone.out_channels)
    roi_heads = None if cfg.MODEL.RPN_ONLY else build_roi_heads(cfg, backbone.out_channels)
    return GeneralizedRCNN(
        backbone, rpn, roi_heads, size_divisible=cfg.DATALOADER.SIZE_DIVISIBILITY
    )
