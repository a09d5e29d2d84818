"""maskrcnn-benchmark's checkpoints: our own names, stored under "model", often after "module.".

Few names differ: a deformable convolution's weight stands beside its offsets' there, not above,
and FBNet's heads have another module around."""

import re
from collections.abc import Collection

from torch import Tensor

from maskrcnn_lib.checkpoint.importers.base import ImportedWeights, coco_names_for

FORMAT = "maskrcnn_benchmark"

_NATIVE = re.compile(
    r"backbone\.(?:body|fpn)\.(?:stem|layer\d|trunk\d|stages|fpn_(?:inner|layer)\d)\b.*"
    r"|rpn\.head\..*"
    r"|roi_heads\.(?:box|mask|keypoint)\.(?:feature_extractor|predictor)\..*"
)
# Anchors are made from the configuration; stored ones could only contradict it.
_ANCHORS = re.compile(r"rpn\.anchor_generator\.cell_anchors\.\d+")
_RENAMED = (
    (re.compile(r"(.*\.layer\d\.\d+\.conv2)\.conv\.(weight|bias)"), r"\1.\2"),
    (re.compile(r"rpn\.head\.0\.head\.(xif.*)"), r"rpn.head.rpn_feature.\1"),
    (re.compile(r"rpn\.head\.1\.(.*)"), r"rpn.head.\1"),
    (re.compile(r"(.*\.feature_extractor)\.head\.blocks\.(xif.*)"), r"\1.blocks.\2"),
    (re.compile(r"(.*\.feature_extractor)\.head\.last\.(.*)"), r"\1.blocks.last.\2"),
)


def recognises(names: Collection[str]) -> bool:
    """Tells whether these are native parameter names."""
    return any(_NATIVE.fullmatch(name) for name in names)


def convert(tensors: dict[str, Tensor]) -> ImportedWeights:
    """Leaves out the stored anchors; nearly all else has native names and layouts already."""
    ignored = [name for name in tensors if _ANCHORS.fullmatch(name)]
    return ImportedWeights(
        format=FORMAT,
        tensors={
            _native_name(name): value for name, value in tensors.items() if name not in ignored
        },
        ignored=ignored,
        class_names=coco_names_for(tensors),
        dialect=FORMAT,
    )


def _native_name(name: str) -> str:
    for pattern, template in _RENAMED:
        if match := pattern.fullmatch(name):
            return match.expand(template)
    return name
