"""What torchvision's RetinaNet calls differently from its two-stage models, and counts otherwise.

It has a logit for label 0 as well, which no object ever has: the sigmoids of 91 classes answer for
COCO's category ids 0 to 90. Ours begins with label 1, so that those rows are left out.
"""

import re
from collections.abc import Collection

from torch import Tensor

from maskrcnn_lib.checkpoint.importers.base import (
    DENSE_LOGITS,
    DENSE_OFFSETS,
    Rule,
    anchors_per_position,
    is_dense,
)

# Files from before torchvision 0.13 number the towers' layers instead of nesting them.
OLD_NAME = "head.classification_head.conv.0.weight"

_HEAD = "head.classification_head."
_NORM = "head.classification_head.conv.0.1.weight"
_TOWERS = {"classification": "cls", "regression": "bbox"}
_PARAMETER = r"\.(?P<parameter>weight|bias)"


def rules(names: Collection[str]) -> list[Rule]:
    """Rules that go before those of the other models; none where it is no RetinaNet."""
    if not any(name.startswith(_HEAD) for name in names):
        return []
    layers_per_conv = 3 if _NORM in names else 2  # with the ReLU

    def fpn(match: re.Match[str]) -> str:
        # The finest map is that of the body's second stage.
        return f"backbone.fpn.fpn_{match['kind']}{int(match['level']) + 2}.{match['parameter']}"

    def tower(match: re.Match[str]) -> str:
        index = layers_per_conv * int(match["conv"]) + int(match["layer"])
        return f"rpn.head.{_TOWERS[match['kind']]}_tower.{index}.{match['parameter']}"

    kind = r"head\.(?P<kind>classification|regression)_head\.conv\."
    return [
        (rf"backbone\.fpn\.(?P<kind>inner|layer)_blocks\.(?P<level>\d)(?:\.0)?{_PARAMETER}", fpn),
        (
            rf"backbone\.fpn\.extra_blocks\.(?P<map>p[67]){_PARAMETER}",
            r"backbone.fpn.top_blocks.\g<map>.\g<parameter>",
        ),
        (rf"{kind}(?P<conv>\d)\.(?P<layer>[01]){_PARAMETER}", tower),
        (
            rf"{kind}(?P<index>\d){_PARAMETER}",
            lambda match: (
                f"rpn.head.{_TOWERS[match['kind']]}_tower.{match['index']}.{match['parameter']}"
            ),
        ),
        (rf"{re.escape(_HEAD)}cls_logits{_PARAMETER}", rf"{DENSE_LOGITS}.\g<parameter>"),
        (rf"head\.regression_head\.bbox_reg{_PARAMETER}", rf"{DENSE_OFFSETS}.\g<parameter>"),
    ]


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
