"""torchvision's detection models with ResNet or MobileNetV3 below an FPN.

Labels are COCO category ids, so that the COCO models have 91 classes with the background first, as
ours. Files written before torchvision 0.13 name some layers otherwise; both are read.
"""

from collections.abc import Collection

from torch import Tensor

from maskrcnn_lib.checkpoint.class_names import coco_category_names
from maskrcnn_lib.checkpoint.importers import torchvision_retinanet, torchvision_v2
from maskrcnn_lib.checkpoint.importers.base import (
    ImportedWeights,
    coco_names_for,
    rename,
)
from maskrcnn_lib.checkpoint.importers.name_pairs import NamePair, import_rules, resnet_pairs

FORMAT = "torchvision"

_EXTRACTOR, _PREDICTOR = "roi_heads.{}.feature_extractor.", "roi_heads.{}.predictor."
_HEAD_PAIRS = [
    NamePair("rpn.head.cls_logits.{p}", "rpn.head.cls_logits.{p}"),
    NamePair("rpn.head.bbox_pred.{p}", "rpn.head.bbox_pred.{p}"),
    NamePair("roi_heads.box_head.fc{i}.{p}", _EXTRACTOR.format("box") + "fc{i}.{p}"),
    *(
        NamePair(
            f"roi_heads.{kind}_predictor.{layer}.{{p}}", f"{_PREDICTOR.format(kind)}{layer}.{{p}}"
        )
        for kind, layers in (
            ("box", ("cls_score", "bbox_pred")),
            ("mask", ("conv5_mask", "mask_fcn_logits")),
            ("keypoint", ("kps_score_lowres",)),
        )
        for layer in layers
    ),
    # Convolutions and ReLUs alternate.
    NamePair(
        "roi_heads.keypoint_head.{2*i}.{p}", _EXTRACTOR.format("keypoint") + "conv_fcn{i+1}.{p}"
    ),
]
_PYRAMID_PAIRS = [
    NamePair("backbone.fpn.inner_blocks.{i}.0.{p}", "backbone.fpn.fpn_inner{i+1}.{p}"),
    NamePair("backbone.fpn.layer_blocks.{i}.0.{p}", "backbone.fpn.fpn_layer{i+1}.{p}"),
    NamePair("rpn.head.conv.0.0.{p}", "rpn.head.conv.{p}"),
    NamePair("roi_heads.mask_head.{i}.0.{p}", _EXTRACTOR.format("mask") + "mask_fcn{i+1}.{p}"),
]
_OLD_PYRAMID_PAIRS = [
    NamePair("backbone.fpn.inner_blocks.{i}.{p}", "backbone.fpn.fpn_inner{i+1}.{p}"),
    NamePair("backbone.fpn.layer_blocks.{i}.{p}", "backbone.fpn.fpn_layer{i+1}.{p}"),
    NamePair("rpn.head.conv.{p}", "rpn.head.conv.{p}"),
    NamePair("roi_heads.mask_head.mask_fcn{i}.{p}", _EXTRACTOR.format("mask") + "mask_fcn{i}.{p}"),
]
# The body of MobileNetV3 is a classifier's chain of layers here, and its bare chain there.
_MOBILENET_PAIRS = [
    NamePair(f"backbone.body.{layer}.{{p}}", f"backbone.body.model.features.{layer}.{{p}}")
    for layer in ("{i}.{c}", "{i}.block.{b}.{c}", "{i}.block.{b}.fc{c}")
]
PAIRS = [
    *resnet_pairs("backbone.body.", "backbone.body."),
    *_MOBILENET_PAIRS,
    *_PYRAMID_PAIRS,
    *_HEAD_PAIRS,
]
"""The names of two-stage models since torchvision 0.13."""

EPS = 1e-5
_OLD_NAMES = ("rpn.head.conv.weight", torchvision_retinanet.OLD_NAME)


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
    particular = [
        *torchvision_retinanet.import_pairs(tensors),
        *torchvision_v2.import_pairs(tensors),
    ]
    renamed = rename(tensors, import_rules([*particular, *PAIRS, *_OLD_PYRAMID_PAIRS]))
    native = torchvision_retinanet.without_background(renamed.tensors)
    old = any(name in tensors for name in _OLD_NAMES)
    return ImportedWeights(
        format=FORMAT,
        tensors=native,
        unmapped=renamed.unmapped,
        ignored=renamed.ignored,
        norm_eps=0.0 if old else EPS,
        class_names=coco_names_for(native, coco_category_names()),
        dialect=FORMAT,
    )
