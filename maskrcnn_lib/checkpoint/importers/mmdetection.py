"""mmdetection's checkpoints, versions 1, 2 and 3: R-CNNs and cascades, RPN, RetinaNet and YOLOF.

Bodies have torchvision's names, be they of PyTorch's or of Caffe's style. Version 2 moved the heads
below ``roi_head`` and the background from the first class to the last, and left out what it had in
box deltas and masks. Anchors are ratio-major as ours, in RetinaNet, too. Offsets are divided by
standard deviations there: (0.1, 0.1, 0.2, 0.2) of the box head are our weights (10, 10, 5, 5), and
RetinaNet's are all 1, so that its config has ``MODEL.RETINANET.BBOX_REG_WEIGHTS`` (1, 1, 1, 1).
Which version wrote a file of an RPN or a RetinaNet, its names do not tell: it is taken for a later
one. YOLOF there is since version 2.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from maskrcnn_lib.checkpoint.class_names import BACKGROUND
from maskrcnn_lib.checkpoint.importers.base import (
    DENSE_LOGITS,
    DENSE_OFFSETS,
    ImportedWeights,
    background_first,
    coco_names_for,
    rename,
)
from maskrcnn_lib.checkpoint.importers.name_pairs import (
    NamePair,
    import_rules,
    resnet_pairs,
    stage_pairs,
)

FORMAT = "mmdetection"

_EPS = 1e-5
_IGNORED = (r"data_preprocessor\.(?:mean|std)",)
_RETINANET = "bbox_head.retina_cls."
_YOLOF = "bbox_head.object_pred."
_YOLOF_NORMS = ("backbone.fpn.", "rpn.head.")
_FIRST_VERSION = ("bbox_head.fc_cls.", "bbox_head.0.fc_cls.")
_SECOND_VERSION = "roi_head."
_BOX_STAGES = "roi_heads.box."

_BODY_PAIRS = [
    *resnet_pairs("backbone.", "backbone.body."),
    *resnet_pairs("backbone.", "backbone.body.", norm="gn"),
    # Of deformable convolutions; version 1 named them after the convolution.
    *(
        NamePair(
            f"backbone.layer{{s}}.{{b}}.conv{{c}}{offset}.{{p}}",
            "backbone.body.layer{s}.{b}.conv{c}.offset.{p}",
        )
        for offset in (".conv_offset", "_offset")
    ),
]
_RPN_PAIRS = [
    NamePair(f"rpn_head.rpn_{foreign}.{{p}}", f"rpn.head.{native}.{{p}}")
    for foreign, native in (("conv", "conv"), ("cls", "cls_logits"), ("reg", "bbox_pred"))
]
_PYRAMID_PAIRS = [
    NamePair("neck.lateral_convs.{i}.conv.{p}", "backbone.fpn.fpn_inner{i+1}.{p}"),
    NamePair("neck.fpn_convs.{i}.conv.{p}", "backbone.fpn.fpn_layer{i+1}.{p}"),
]
_RETINANET_PAIRS = [
    # The finest map is that of the body's second stage; the list ends with P6 and P7.
    NamePair("neck.lateral_convs.{i}.conv.{p}", "backbone.fpn.fpn_inner{i+2}.{p}"),
    NamePair("neck.fpn_convs.3.conv.{p}", "backbone.fpn.top_blocks.p6.{p}"),
    NamePair("neck.fpn_convs.4.conv.{p}", "backbone.fpn.top_blocks.p7.{p}"),
    NamePair("neck.fpn_convs.{i}.conv.{p}", "backbone.fpn.fpn_layer{i+2}.{p}"),
    # Convolutions and ReLUs alternate in our towers.
    NamePair("bbox_head.cls_convs.{i}.conv.{p}", "rpn.head.cls_tower.{2*i}.{p}"),
    NamePair("bbox_head.reg_convs.{i}.conv.{p}", "rpn.head.bbox_tower.{2*i}.{p}"),
    NamePair("bbox_head.retina_cls.{p}", f"{DENSE_LOGITS}.{{p}}"),
    NamePair("bbox_head.retina_reg.{p}", f"{DENSE_OFFSETS}.{{p}}"),
]
_YOLOF_PAIRS = [
    NamePair("neck.lateral_conv.{p}", "backbone.fpn.lateral_conv.{p}"),
    NamePair("neck.lateral_norm.{p}", "backbone.fpn.lateral_norm.{p}"),
    NamePair("neck.fpn_conv.{p}", "backbone.fpn.fpn_conv.{p}"),
    NamePair("neck.fpn_norm.{p}", "backbone.fpn.fpn_norm.{p}"),
    # In our towers a norm and a ReLU follow each convolution.
    *(
        pair
        for step, layer in enumerate(("conv", "bn"))
        for pair in (
            NamePair(
                f"neck.dilated_encoder_blocks.{{b}}.conv{{c}}.{layer}.{{p}}",
                f"backbone.fpn.blocks.{{b}}.conv{{c}}.{step}.{{p}}",
            ),
            NamePair(
                f"bbox_head.cls_subnet.{{i}}.{layer}.{{p}}",
                f"rpn.head.cls_tower.{{3*i+{step}}}.{{p}}",
            ),
            NamePair(
                f"bbox_head.bbox_subnet.{{i}}.{layer}.{{p}}",
                f"rpn.head.bbox_tower.{{3*i+{step}}}.{{p}}",
            ),
        )
    ),
    NamePair("bbox_head.cls_score.{p}", f"{DENSE_LOGITS}.{{p}}"),
    NamePair("bbox_head.bbox_pred.{p}", f"{DENSE_OFFSETS}.{{p}}"),
    NamePair("bbox_head.object_pred.{p}", "rpn.head.object_logits.{p}"),
]


def _head_pairs(prefix: str) -> list[NamePair]:
    shared_stage = stage_pairs(
        f"{prefix}shared_head.layer4.", "roi_heads.box.feature_extractor.head.layer4."
    )
    return [
        *_layer_pairs(prefix, "", ""),
        *_layer_pairs(prefix, "{s}.", "stages.{s}."),
        *shared_stage,
    ]


def _layer_pairs(prefix: str, foreign_stage: str, native_stage: str) -> list[NamePair]:
    """Layers of the heads; in a cascade each has a stage in its name."""
    box, mask = f"roi_heads.box.{native_stage}", f"roi_heads.mask.{native_stage}"
    layers = (
        ("bbox_head", "shared_fcs.{i}", f"{box}feature_extractor.fc{{i+6}}"),
        ("bbox_head", "fc_cls", f"{box}predictor.cls_score"),
        ("bbox_head", "fc_reg", f"{box}predictor.bbox_pred"),
        ("mask_head", "convs.{i}.conv", f"{mask}feature_extractor.mask_fcn{{i+1}}"),
        ("mask_head", "upsample", f"{mask}predictor.conv5_mask"),
        ("mask_iou_head", "convs.{i}", f"{mask}iou_head.convs.{{i}}"),
        ("mask_iou_head", "fcs.{i}", f"{mask}iou_head.fcs.{{i}}"),
        ("mask_iou_head", "fc_mask_iou", f"{mask}iou_head.fc_mask_iou"),
        ("mask_head", "conv_logits", f"{mask}predictor.mask_fcn_logits"),
        # PointRend's, without background as here
        ("mask_head", "downsample_conv.conv", f"{mask}feature_extractor.downsample"),
        ("mask_head", "fcs.{i}", f"{mask}feature_extractor.fcs.{{i}}"),
        ("mask_head", "fc_logits", f"{mask}predictor.fc_logits"),
        ("point_head", "fcs.{i}.conv", f"{mask}point_head.fcs.{{i}}"),
        ("point_head", "fc_logits", f"{mask}point_head.fc_logits"),
    )
    return [
        NamePair(f"{prefix}{head}.{foreign_stage}{foreign}.{{p}}", f"{native}.{{p}}")
        for head, foreign, native in layers
    ]


def recognises(names: Collection[str]) -> bool:
    """Tells whether these are mmdetection's names."""
    heads = ("rpn_head.rpn_", "roi_head.bbox_head.", *_FIRST_VERSION, _RETINANET, _YOLOF)
    return any(name.startswith(heads) for name in names)


def convert(tensors: dict[str, Tensor]) -> ImportedWeights:
    """Brings mmdetection's weights into native names and class order."""
    first_version = any(name.startswith(_FIRST_VERSION) for name in tensors)
    pairs = [
        *_BODY_PAIRS,
        *_neck_pairs(tensors),
        *_RPN_PAIRS,
        *_head_pairs("" if first_version else _SECOND_VERSION),
    ]
    renamed = rename(tensors, import_rules(pairs), _IGNORED)
    in_our_order = _with_background_regressor if first_version else background_first
    native = in_our_order(renamed.tensors)
    return ImportedWeights(
        format=FORMAT,
        tensors=native,
        unmapped=renamed.unmapped,
        ignored=renamed.ignored,
        norm_eps=_EPS,
        learned_norms=_YOLOF_NORMS if any(n.startswith(_YOLOF) for n in tensors) else (),
        class_names=coco_names_for(native),
        dialect="mmdet_v1" if first_version else "mmdet",
    )


def _neck_pairs(names: Iterable[str]) -> list[NamePair]:
    """Pairs of what stands on the body, and in one-stage detectors of the head."""
    for name in names:
        if name.startswith(_RETINANET):
            return _RETINANET_PAIRS
        if name.startswith(_YOLOF):
            return _YOLOF_PAIRS
    return _PYRAMID_PAIRS


def _with_background_regressor(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Version 1 has the background's offsets, too, unless one regressor serves all classes."""
    return {
        name: torch.cat((torch.zeros_like(value), value))
        if name.startswith(_BOX_STAGES) and ".bbox_pred." in name and len(value) == 4
        else value
        for name, value in tensors.items()
    }


def stored_class_names(content: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The class names, the background first, that the file's ``meta`` tells; None without them."""
    meta = content.get("meta")
    if not isinstance(meta, Mapping):
        return None
    dataset = meta.get("dataset_meta")
    names = dataset.get("classes") if isinstance(dataset, Mapping) else meta.get("CLASSES")
    if isinstance(names, str):  # version 1 and 2 store the name of a single class as it is
        names = (names,)
    return (BACKGROUND, *map(str, names)) if names else None
