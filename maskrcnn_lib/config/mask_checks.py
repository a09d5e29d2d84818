"""Checks of what the keys of the mask head mean together."""

from collections.abc import Iterator

from maskrcnn_lib.config.architecture import is_cascade
from maskrcnn_lib.config.node import CfgNode

# In C4 models the mask head works on the regions that the box head's pooler cut out, and halves
# their side; the other extractor keeps that of its own pooler.
_C4 = "ResNet50Conv5ROIFeatureExtractor"
_FPN = "MaskRCNNFPNFeatureExtractor"
# By how much the last layers enlarge a side. Parts whose factor follows from other keys, or that a
# user has registered, are not looked at.
_ENLARGEMENTS = {
    "MaskRCNNC4Predictor": 2,
    "ClassAgnosticMaskPredictor": 2,
    "MaskRCNNConv1x1Predictor": 1,
}


def check_masks(cfg: CfgNode) -> Iterator[str]:
    """What is wrong with the mask head, one sentence each."""
    if not cfg.MODEL.MASK_ON:
        if cfg.MODEL.MASKIOU_ON:
            yield "MODEL.MASKIOU_ON rates masks, and needs MODEL.MASK_ON True"
        return
    if cfg.MODEL.MASKIOU_ON and is_cascade(cfg):
        yield "MODEL.MASKIOU_ON rates the masks of one head, and does not go with a cascade"
    head = cfg.MODEL.ROI_MASK_HEAD
    if head.POINT_HEAD_ON and (cfg.MODEL.MASKIOU_ON or is_cascade(cfg)):
        yield (
            "MODEL.ROI_MASK_HEAD.POINT_HEAD_ON goes neither with MODEL.MASKIOU_ON nor with a "
            "cascade"
        )
    if head.POINT_HEAD_ON and head.POOLER_RESOLUTION % 2:
        yield (
            "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION is halved by POINT_HEAD_ON and must be even, "
            f"but is {head.POOLER_RESOLUTION}"
        )
    side = _side(cfg)
    if side is not None and head.RESOLUTION != side:
        yield (
            f"MODEL.ROI_MASK_HEAD.RESOLUTION is {head.RESOLUTION}, but this head makes masks of "
            f"{side} x {side}: set it so, or choose another POOLER_RESOLUTION"
        )


def _side(cfg: CfgNode) -> int | None:
    """The side of the masks; None where it is not known here."""
    head = cfg.MODEL.ROI_MASK_HEAD
    if head.POINT_HEAD_ON:
        return head.POOLER_RESOLUTION // 2
    enlargement = _ENLARGEMENTS.get(head.PREDICTOR)
    if enlargement is None:
        return None
    if head.FEATURE_EXTRACTOR == _FPN:
        return head.POOLER_RESOLUTION * enlargement
    if head.FEATURE_EXTRACTOR == _C4 and cfg.MODEL.RESNETS.RES5_DILATION == 1:
        return -(-cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION // 2) * enlargement
    return None
