"""D2Go's FBNetV3 detectors with folded norm: detectron2's conventions under other names."""

from collections.abc import Collection

from torch import Tensor

from maskrcnn_lib.checkpoint.importers import detectron2
from maskrcnn_lib.checkpoint.importers.base import (
    BOX_PREDICTOR,
    ImportedWeights,
    Rule,
    background_first,
    coco_names_for,
    rename,
)

FORMAT = "d2go"

_RULES: list[Rule] = [
    (r"(backbone\.body\.trunk\d\..*)", r"\1"),
    (r"proposal_generator\.rpn_head\.rpn_feature\.0\.(.*)", r"rpn.head.rpn_feature.\1"),
    (
        r"proposal_generator\.rpn_head\.rpn_regressor\.((?:cls_logits|bbox_pred)\..*)",
        r"rpn.head.\1",
    ),
    (r"roi_heads\.box_head\.roi_box_conv\.0\.(.*)", r"roi_heads.box.feature_extractor.blocks.\1"),
    (r"roi_heads\.box_predictor\.((?:cls_score|bbox_pred)\..*)", BOX_PREDICTOR + r"\1"),
    (
        r"roi_heads\.mask_head\.feature_extractor\.0\.(.*)",
        r"roi_heads.mask.feature_extractor.blocks.\1",
    ),
    (
        r"roi_heads\.mask_head\.predictor\.(mask_fcn_logits\..*)",
        r"roi_heads.mask.predictor.\1",
    ),
    (
        r"roi_heads\.keypoint_head\.feature_extractor\.0\.(.*)",
        r"roi_heads.keypoint.feature_extractor.blocks.\1",
    ),
    (
        r"roi_heads\.keypoint_head\.predictor\.(kps_score_lowres\..*)",
        r"roi_heads.keypoint.predictor.\1",
    ),
]


def recognises(names: Collection[str]) -> bool:
    """Tells whether these are the names of D2Go's FBNetV3 detectors."""
    return any(name.startswith("proposal_generator.rpn_head.rpn_regressor.") for name in names)


def convert(tensors: dict[str, Tensor]) -> ImportedWeights:
    """Brings D2Go's weights into native names, class order and anchor order."""
    renamed = rename(tensors, _RULES, detectron2.IGNORED)
    native = background_first(renamed.tensors)
    return ImportedWeights(
        format=FORMAT,
        tensors=detectron2.anchors_ratio_major(native, tensors.get(detectron2.CELL_ANCHORS)),
        unmapped=renamed.unmapped,
        ignored=renamed.ignored,
        class_names=coco_names_for(native),
        dialect=FORMAT,
    )
