"""torchvision's detection models with ResNet-FPN, and its ResNet classifiers.

Labels are COCO category ids, so that the COCO models have 91 classes with the background first, as
ours. Files written before torchvision 0.13 name some layers otherwise; both are read.
"""

from collections.abc import Collection

from torch import Tensor

from maskrcnn_lib.checkpoint.class_names import coco_category_names
from maskrcnn_lib.checkpoint.importers import torchvision_retinanet
from maskrcnn_lib.checkpoint.importers.base import (
    BOX_PREDICTOR,
    ImportedWeights,
    Rule,
    coco_names_for,
    rename,
)

FORMAT = "torchvision"
IMAGENET_FORMAT = "torchvision_imagenet"
MOBILENET_FORMAT = "torchvision_mobilenet"

_PARAMETERS = "(weight|bias|running_mean|running_var|num_batches_tracked)"
_BLOCK = r"(layer[1-4]\.\d+\.(?:conv[123]|bn[123]|downsample\.[01])\." + _PARAMETERS + ")"


def _body_rules(source: str, target: str) -> list[Rule]:
    return [
        (rf"{source}(conv1|bn1)\.{_PARAMETERS}", rf"{target}stem.\1.\2"),
        (rf"{source}{_BLOCK}", rf"{target}\1"),
    ]


def _fpn(kind: str) -> Rule:
    return (
        rf"backbone\.fpn\.{kind}_blocks\.(\d)(?:\.0)?\.(weight|bias)",
        lambda match: f"backbone.fpn.fpn_{kind}{int(match[1]) + 1}.{match[2]}",
    )


_RULES: list[Rule] = [
    *_body_rules(r"backbone\.body\.", "backbone.body."),
    _fpn("inner"),
    _fpn("layer"),
    (r"rpn\.head\.conv(?:\.0\.0)?\.(weight|bias)", r"rpn.head.conv.\1"),
    (r"(rpn\.head\.(?:cls_logits|bbox_pred)\.(?:weight|bias))", r"\1"),
    (r"roi_heads\.box_head\.(fc[67]\..*)", r"roi_heads.box.feature_extractor.\1"),
    (r"roi_heads\.box_predictor\.((?:cls_score|bbox_pred)\..*)", BOX_PREDICTOR + r"\1"),
    (
        r"roi_heads\.mask_head\.(?:mask_fcn(?P<old>\d)|(?P<new>\d)\.0)\.(?P<p>weight|bias)",
        lambda match: (
            "roi_heads.mask.feature_extractor.mask_fcn"
            f"{match['old'] or int(match['new']) + 1}.{match['p']}"
        ),
    ),
    (
        r"roi_heads\.mask_predictor\.((?:conv5_mask|mask_fcn_logits)\..*)",
        r"roi_heads.mask.predictor.\1",
    ),
    (
        # Convolutions and ReLUs alternate.
        r"roi_heads\.keypoint_head\.(\d+)\.(weight|bias)",
        lambda match: (
            f"roi_heads.keypoint.feature_extractor.conv_fcn{int(match[1]) // 2 + 1}.{match[2]}"
        ),
    ),
    (
        r"roi_heads\.keypoint_predictor\.(kps_score_lowres\..*)",
        r"roi_heads.keypoint.predictor.\1",
    ),
]

_EPS = 1e-5
_OLD_NAMES = ("rpn.head.conv.weight", torchvision_retinanet.OLD_NAME)
_MARKERS = ("backbone.fpn.inner_blocks.", "roi_heads.box_head.", "backbone.body.conv1.")


def recognises(names: Collection[str]) -> bool:
    """Tells whether these are the names of torchvision's detection models."""
    return any(
        name.startswith(
            ("backbone.fpn.inner_blocks.", "roi_heads.box_head.", "backbone.body.conv1")
        )
        for name in names
    ) and not any(name.startswith("proposal_generator.") for name in names)


def convert(tensors: dict[str, Tensor]) -> ImportedWeights:
    """Brings a detection model's weights into native names.

    The frozen norm layers have epsilon 1e-5. It was 0 before torchvision 0.9, and torchvision still
    sets it to 0 for the COCO weights of that time, whose files keep the old layer names; so the old
    names mean 0 here.
    """
    rules = torchvision_retinanet.rules(tensors) + _RULES
    renamed = rename(tensors, rules)
    native = torchvision_retinanet.without_background(renamed.tensors)
    old = any(name in tensors for name in _OLD_NAMES)
    return ImportedWeights(
        format=FORMAT,
        tensors=native,
        unmapped=renamed.unmapped,
        ignored=renamed.ignored,
        norm_eps=0.0 if old else _EPS,
        class_names=coco_names_for(native, coco_category_names()),
        dialect=FORMAT,
    )


def recognises_classifier(names: Collection[str]) -> bool:
    """Tells whether these are the names of torchvision's ResNet classifiers."""
    return "conv1.weight" in names and "layer1.0.conv1.weight" in names


def convert_classifier(tensors: dict[str, Tensor]) -> ImportedWeights:
    """Takes the body of an ImageNet classifier."""
    renamed = rename(tensors, _body_rules("", ""), (r"fc\.(?:weight|bias)",))
    return ImportedWeights(
        format=IMAGENET_FORMAT,
        tensors=renamed.tensors,
        unmapped=renamed.unmapped,
        ignored=renamed.ignored,
        norm_eps=_EPS,
        body_only=True,
    )


def recognises_mobilenet(names: Collection[str]) -> bool:
    """Tells whether these are the names of torchvision's MobileNetV2 classifier."""
    return "features.1.conv.0.0.weight" in names and "features.18.0.weight" in names


def convert_mobilenet(tensors: dict[str, Tensor]) -> ImportedWeights:
    """Takes the body of a MobileNetV2 classifier, up to its last block."""
    rules: list[Rule] = [(r"(features\.(?:\d|1[0-7])\..*)", r"\1")]
    renamed = rename(tensors, rules, (r"features\.18\..*", r"classifier\..*"))
    return ImportedWeights(
        format=MOBILENET_FORMAT,
        tensors=renamed.tensors,
        unmapped=renamed.unmapped,
        ignored=renamed.ignored,
        norm_eps=_EPS,
        body_only=True,
    )
