"""From a config to a model."""

from torch import nn
from yacs.config import CfgNode

from maskrcnn_lib.config.architecture import architecture, is_cascade
from maskrcnn_lib.modeling.backbone import build_backbone
from maskrcnn_lib.modeling.dense.retinanet import build_retinanet
from maskrcnn_lib.modeling.dense.yolof import build_yolof
from maskrcnn_lib.modeling.detector.generalized_rcnn import GeneralizedRCNN
from maskrcnn_lib.modeling.detector.one_stage import OneStageDetector
from maskrcnn_lib.modeling.given_proposals import GivenProposals
from maskrcnn_lib.modeling.registry import META_ARCHITECTURES
from maskrcnn_lib.modeling.roi_heads.cascade import build_cascade_roi_heads
from maskrcnn_lib.modeling.roi_heads.roi_heads import build_roi_heads
from maskrcnn_lib.modeling.rpn.rpn import build_rpn


def build_detection_model(cfg: CfgNode) -> nn.Module:
    """Builds the model that the config describes, with random weights, on the CPU.

    Raises:
        ValueError: an option is not available.
        KeyError: ``MODEL.META_ARCHITECTURE`` or a part that the config names is not registered.
    """
    return META_ARCHITECTURES[architecture(cfg)](cfg)


@META_ARCHITECTURES.register("GeneralizedRCNN")
def build_generalized_rcnn(cfg: CfgNode) -> GeneralizedRCNN:
    """Fast, Faster, Mask and Cascade R-CNN, and the region proposal network alone."""
    backbone = build_backbone(cfg)
    rpn = GivenProposals() if cfg.MODEL.LOAD_PROPOSALS else build_rpn(cfg, backbone.out_channels)
    build_heads = build_cascade_roi_heads if is_cascade(cfg) else build_roi_heads
    roi_heads = None if cfg.MODEL.RPN_ONLY else build_heads(cfg, backbone.out_channels)
    return GeneralizedRCNN(
        backbone, rpn, roi_heads, size_divisible=cfg.DATALOADER.SIZE_DIVISIBILITY
    )


@META_ARCHITECTURES.register("RetinaNet")
def build_retinanet_detector(cfg: CfgNode) -> OneStageDetector:
    """RetinaNet; its backbone is one of those named ``...-FPN-RETINANET``."""
    backbone = build_backbone(cfg)
    head = build_retinanet(cfg, backbone.out_channels)
    return OneStageDetector(backbone, head, size_divisible=cfg.DATALOADER.SIZE_DIVISIBILITY)


@META_ARCHITECTURES.register("YOLOF")
def build_yolof_detector(cfg: CfgNode) -> OneStageDetector:
    """YOLOF; its backbone is one of those named ``...-C5-YOLOF``."""
    backbone = build_backbone(cfg)
    head = build_yolof(cfg, backbone.out_channels)
    return OneStageDetector(backbone, head, size_divisible=cfg.DATALOADER.SIZE_DIVISIBILITY)
