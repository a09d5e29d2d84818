"""maskrcnn-benchmark's checkpoints: our own names, stored under "model", often after "module."."""

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


def recognises(names: Collection[str]) -> bool:
    """Tells whether these are native parameter names."""
    return any(_NATIVE.fullmatch(name) for name in names)


def convert(tensors: dict[str, Tensor]) -> ImportedWeights:
    """Leaves out the stored anchors; the rest has native names and layouts already."""
    ignored = [name for name in tensors if _ANCHORS.fullmatch(name)]
    return ImportedWeights(
        format=FORMAT,
        tensors={name: value for name, value in tensors.items() if name not in ignored},
        ignored=ignored,
        class_names=coco_names_for(tensors),
        dialect=FORMAT,
    )
