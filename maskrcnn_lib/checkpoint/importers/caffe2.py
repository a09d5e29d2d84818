"""Detectron's pickles of Caffe2 blobs: detection models and ImageNet classifiers.

Layouts and class order equal ours: background first, anchors ratio-major (but RetinaNet's, which
are reordered), BGR input. RetinaNet's offsets are not weighted there, so that its config has
``MODEL.RETINANET.BBOX_REG_WEIGHTS`` (1, 1, 1, 1). Its affine
channel layers are our frozen norm layers with mean 0 and variance 1. A blob ``_[mask]_x`` holds the
mask head's own copy of ``x``.
"""

import re
from collections.abc import Collection

import torch
from torch import Tensor

from maskrcnn_lib.checkpoint.importers.base import (
    BOX_PREDICTOR,
    DENSE_LOGITS,
    DENSE_OFFSETS,
    ImportedWeights,
    Rule,
    coco_names_for,
    is_dense,
    rename,
    to_ratio_major,
)

FORMAT = "caffe2"

_MARKERS = ("res2_0_branch2a_w", "conv_rpn_w", "conv_rpn_fpn2_w")
_DETECTION = ("conv_rpn", "rpn_", "cls_score_", "conv_cls_", "fpn_", "retnet_")

_PARAMETER = {
    **{"w": "weight", "b": "bias", "s": "weight", "gamma": "weight", "beta": "bias"},
    **{"running_mean": "running_mean", "running_var": "running_var"},
}
_CONV = {"1": "downsample.0", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
_NORM = {"1": "downsample.1", "2a": "bn1", "2b": "bn2", "2c": "bn3"}
_NORM_BLOB = "(?:bn|gn)_(s|b|gamma|beta|running_mean|running_var)"
_NATIVE_NORM_WEIGHT = re.compile(r"(.*(?:bn[123]|downsample\.1)\.)weight")

_HEADS: tuple[tuple[str, str], ...] = (
    ("conv_rpn(?:_fpn2)?", "rpn.head.conv"),
    ("rpn_cls_logits(?:_fpn2)?", "rpn.head.cls_logits"),
    ("rpn_bbox_pred(?:_fpn2)?", "rpn.head.bbox_pred"),
    ("(fc[67])", r"roi_heads.box.feature_extractor.\1"),
    ("(conv_cls|conv_bbox_pred)", r"roi_heads.box.feature_extractor.\1"),
    ("conv_dim_reduce", "roi_heads.box.feature_extractor.reduce.0"),
    ("(cls_score|bbox_pred)", BOX_PREDICTOR + r"\1"),
    ("(conv5_mask|mask_fcn_logits)", r"roi_heads.mask.predictor.\1"),
    (r"(conv_fcn\d+)", r"roi_heads.keypoint.feature_extractor.\1"),
    ("kps_score_lowres", "roi_heads.keypoint.predictor.kps_score_lowres"),
    ("fpn_([67])", r"backbone.fpn.top_blocks.p\1"),
    ("retnet_cls_pred_fpn3", DENSE_LOGITS),
    ("retnet_bbox_pred_fpn3", DENSE_OFFSETS),
)

# RetinaNet's anchors: Detectron goes through 3 octaves, and in each through the ratios 1, 2, 0.5;
# ours through the ratios 0.5, 1, 2, and for each through the octaves.
_RETINANET_ORDER = [3 * octave + ratio for ratio in (2, 0, 1) for octave in range(3)]

# ImageNet files carry their classifier (X-101 calls it "pred") and biases of the convolutions that
# are zero; keypoint files a fixed bilinear kernel.
_IGNORED = (".*_momentum", "(?:fc1000|pred)_[wb]", "kps_score_[wb]")
_CONV_BIAS = re.compile(r"(?:conv1|res[2-5]_\d+_branch(?:1|2[abc]))_b")
# Classifiers whose norm was not folded are detectron2's, which reads them with this epsilon.
_STATISTICS_EPS = 1e-5


def recognises(names: Collection[str]) -> bool:
    """Tells whether these are Detectron's blob names."""
    return any(marker in names for marker in _MARKERS)


def convert(tensors: dict[str, Tensor]) -> ImportedWeights:
    """Brings Detectron's blobs into native names."""
    body_only = not any(name.startswith(_DETECTION) for name in tensors)
    zero_biases = tuple(
        name for name in tensors if _CONV_BIAS.fullmatch(name) and not tensors[name].any()
    )
    renamed = rename(tensors, _rules(tensors, body_only=body_only), (*_IGNORED, *zero_biases))
    if is_dense(renamed.tensors):
        renamed.tensors.update(to_ratio_major(renamed.tensors, _RETINANET_ORDER))
    with_statistics = any(name.endswith("running_var") for name in renamed.tensors)
    with_group_norm = any("_gn_" in name for name in tensors)
    if not with_statistics and not with_group_norm:
        renamed.tensors.update(_unit_statistics(renamed.tensors))
    return ImportedWeights(
        format=FORMAT,
        tensors=renamed.tensors,
        unmapped=renamed.unmapped,
        ignored=renamed.ignored,
        norm_eps=_STATISTICS_EPS if with_statistics else 0.0,
        class_names=coco_names_for(renamed.tensors),
        dialect=None if body_only else "maskrcnn_benchmark",
        body_only=body_only,
    )


def _rules(tensors: Collection[str], *, body_only: bool) -> list[Rule]:
    body = "" if body_only else "backbone.body."
    # Without a pyramid, fc6 and R-FCN's score maps the last stage is the box head (C4).
    others = ("fpn_", "fc6_", "conv_cls_")
    head_is_res5 = not body_only and not any(name.startswith(others) for name in tensors)
    last_stage = "roi_heads.box.feature_extractor.head." if head_is_res5 else body

    def block(match: re.Match[str], layer: str, parameter: str) -> str:
        head, stage, index = match["head"], int(match["stage"]), match["block"]
        home = last_stage if stage == 5 else body
        if head:
            home = f"roi_heads.{head}.feature_extractor.head."
        return f"{home}layer{stage - 1}.{index}.{layer}.{_PARAMETER[parameter]}"

    block_blob = (
        r"(?:_\[(?P<head>mask|keypoint)\]_)?"
        r"res(?P<stage>[2-5])_(?P<block>\d+)_branch(?P<branch>1|2[abc])_"
    )
    rules: list[Rule] = [
        ("conv1_w", f"{body}stem.conv1.weight"),
        (
            f"(?:res_)?conv1_{_NORM_BLOB}",
            lambda match: f"{body}stem.bn1.{_PARAMETER[match[1]]}",
        ),
        (f"{block_blob}w", lambda match: block(match, _CONV[match["branch"]], "w")),
        (
            f"{block_blob}{_NORM_BLOB}",
            lambda match: block(match, _NORM[match["branch"]], match[match.lastindex]),
        ),
        *_normed_layers(tensors),
    ]
    rules.append(
        (
            # Convolutions and ReLUs alternate in our towers.
            r"retnet_(cls|bbox)_conv_n(\d)_fpn3_([wb])",
            lambda match: f"rpn.head.{match[1]}_tower.{2 * int(match[2])}.{_PARAMETER[match[3]]}",
        )
    )
    for blob, native in _HEADS:
        rules += [(f"{blob}_w", f"{native}.weight"), (f"{blob}_b", f"{native}.bias")]
    return rules


def _normed_layers(tensors: Collection[str]) -> list[Rule]:
    """Rules for the convolutions behind which there may be a group norm.

    With one, a layer is a sequence of convolution and norm here. All convolutions of the box head
    are one sequence, in which ReLUs stand between them.
    """

    def place(match: re.Match[str], home: str, index: int | None = None) -> str:
        normed = f"{match['blob']}_gn_s" in tensors
        if index is not None:
            home += f".{index * (3 if normed else 2) + bool(match['norm'])}"
        elif normed:
            home += ".1" if match["norm"] else ".0"
        return f"{home}.{_PARAMETER[match['parameter']]}"

    def pyramid(match: re.Match[str]) -> str:
        kind = "inner" if match["inner"] else "layer"
        return place(match, f"backbone.fpn.fpn_{kind}{int(match['number']) - 1}")

    def mask_head(match: re.Match[str]) -> str:
        return place(match, f"roi_heads.mask.feature_extractor.mask_fcn{match['number']}")

    def box_head(match: re.Match[str]) -> str:
        index = int(match["number"]) - 1
        return place(match, "roi_heads.box.feature_extractor.xconvs", index)

    layers = (
        (r"fpn_(?P<inner>inner_)?res(?P<number>[2-5])_\d+_sum(?:_lateral)?", pyramid),
        (r"_(?:\[mask\]|mask)_fcn(?P<number>\d+)", mask_head),
        (r"head_conv(?P<number>\d+)", box_head),
    )
    return [(f"(?P<blob>{blob})_(?P<norm>gn_)?(?P<parameter>[wbs])", name) for blob, name in layers]


def _unit_statistics(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean 0 and variance 1 for each affine layer, which has none of its own."""
    statistics = {}
    for name, weight in tensors.items():
        match = _NATIVE_NORM_WEIGHT.fullmatch(name)
        if match:
            statistics[match[1] + "running_mean"] = torch.zeros_like(weight)
            statistics[match[1] + "running_var"] = torch.ones_like(weight)
    return statistics
