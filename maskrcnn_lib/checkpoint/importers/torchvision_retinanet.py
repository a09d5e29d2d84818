"""What torchvision's RetinaNet calls differently from its two-stage models, and counts otherwise.

It has a logit for label 0 as well, which no object ever has: the sigmoids of 91 classes answer for
COCO's category ids 0 to 90. Ours begins with label 1, so that those rows are left out.
"""

from collections.abc import Collection

import torch
from torch import Tensor

from maskrcnn_lib.checkpoint.importers.base import (
    DENSE_LOGITS,
    DENSE_OFFSETS,
    anchors_per_position,
    is_dense,
)
from maskrcnn_lib.checkpoint.importers.name_pairs import NamePair

# Files from before torchvision 0.13 number the towers' layers instead of nesting them.
OLD_NAME = "head.classification_head.conv.0.weight"

_HEAD = "head.classification_head."
_NORM = "head.classification_head.conv.0.1.weight"
_NATIVE_NORM = "rpn.head.cls_tower.1.weight"
_NEVER = -30.0  # logit of a class that no anchor has: a score of 1e-13
_TOWERS = {"classification": "cls", "regression": "bbox"}

_PAIRS = [
    # The finest map is that of the body's second stage.
    NamePair("backbone.fpn.inner_blocks.{i}.0.{p}", "backbone.fpn.fpn_inner{i+2}.{p}"),
    NamePair("backbone.fpn.layer_blocks.{i}.0.{p}", "backbone.fpn.fpn_layer{i+2}.{p}"),
    NamePair("backbone.fpn.extra_blocks.p{i}.{p}", "backbone.fpn.top_blocks.p{i}.{p}"),
    NamePair(f"{_HEAD}cls_logits.{{p}}", f"{DENSE_LOGITS}.{{p}}"),
    NamePair("head.regression_head.bbox_reg.{p}", f"{DENSE_OFFSETS}.{{p}}"),
]
_OLD_PAIRS = [
    NamePair("backbone.fpn.inner_blocks.{i}.{p}", "backbone.fpn.fpn_inner{i+2}.{p}"),
    NamePair("backbone.fpn.layer_blocks.{i}.{p}", "backbone.fpn.fpn_layer{i+2}.{p}"),
    *(
        NamePair(f"head.{kind}_head.conv.{{i}}.{{p}}", f"rpn.head.{tower}_tower.{{i}}.{{p}}")
        for kind, tower in _TOWERS.items()
    ),
]


def import_pairs(names: Collection[str]) -> list[NamePair]:
    """Pairs that go before those of the other models; none where it is no RetinaNet."""
    if not any(name.startswith(_HEAD) for name in names):
        return []
    return _PAIRS + _tower_pairs(with_norm=_NORM in names) + _OLD_PAIRS


def export_pairs(native_names: Collection[str]) -> list[NamePair]:
    """The same for native names, which become torchvision's new ones."""
    if not is_dense(native_names):
        return []
    return _PAIRS + _tower_pairs(with_norm=_NATIVE_NORM in native_names)


def _tower_pairs(*, with_norm: bool) -> list[NamePair]:
    layers = 3 if with_norm else 2  # with the ReLU
    return [
        NamePair(
            f"head.{kind}_head.conv.{{i}}.{layer}.{{p}}",
            f"rpn.head.{tower}_tower.{{{layers}*i+{layer}}}.{{p}}",
        )
        for kind, tower in _TOWERS.items()
        for layer in range(layers - 1)
    ]


def with_background(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``without_background``: no object ever gets label 0."""
    anchors = anchors_per_position(tensors)
    if not is_dense(tensors) or anchors == 0:
        return tensors
    logits = {}
    for suffix, value in (("weight", 0.0), ("bias", _NEVER)):
        per_anchor = tensors[f"{DENSE_LOGITS}.{suffix}"].unflatten(0, (anchors, -1))
        never = torch.full_like(per_anchor[:, :1], value)
        logits[f"{DENSE_LOGITS}.{suffix}"] = torch.cat((never, per_anchor), dim=1).flatten(0, 1)
    return tensors | logits


def without_background(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Native weights without each anchor's logit of label 0; others as they are."""
    anchors = anchors_per_position(tensors)
    if not is_dense(tensors) or anchors == 0:
        return tensors
    logits = {
        name: tensors[name].unflatten(0, (anchors, -1))[:, 1:].flatten(0, 1)
        for name in (f"{DENSE_LOGITS}.weight", f"{DENSE_LOGITS}.bias")
        if name in tensors
    }
    return tensors | logits
