"""detectron2's R-CNN (C4, FPN, cascades) and RetinaNet checkpoints, and its ImageNet classifiers.

The background is the last class there, mask channels and box deltas have none, and the anchors of
one feature map are ordered by size first; all of this is brought into the native order.
"""

from collections.abc import Collection

import torch
from torch import Tensor

from maskrcnn_lib.checkpoint.importers import detectron2_norms
from maskrcnn_lib.checkpoint.importers.base import (
    BOX_PREDICTOR,
    DENSE_LOGITS,
    DENSE_OFFSETS,
    ImportedWeights,
    anchors_per_position,
    background_first,
    coco_names_for,
    is_dense,
    rename,
    to_ratio_major,
)
from maskrcnn_lib.checkpoint.importers.name_pairs import NamePair, import_rules

FORMAT = "detectron2"

# Pixel statistics come from the configuration, anchors are made from it; the classifier is unused.
IGNORED = (
    r"pixel_(?:mean|std)",
    r"(?:proposal_generator\.)?anchor_generator\.cell_anchors\.\d+",
    r"(?:stem\.)?fc\.(?:weight|bias)",
)

EPS = 1e-5
CELL_ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"
_DENSE_CELL_ANCHORS = "anchor_generator.cell_anchors.0"
# Anchors at one position of the C4 models: 5 sizes, each in 3 aspect ratios.
_C4_SIZES, _C4_RATIOS = 5, 3
# And of RetinaNet: 3 sizes.
_RETINANET_SIZES = 3


def _stage_pairs(foreign: str, native: str) -> list[NamePair]:
    return [
        NamePair(f"{foreign}{{b}}.conv{{c}}.{{p}}", f"{native}{{b}}.conv{{c}}.{{p}}"),
        NamePair(f"{foreign}{{b}}.conv{{c}}.norm.{{p}}", f"{native}{{b}}.bn{{c}}.{{p}}"),
        NamePair(f"{foreign}{{b}}.conv{{c}}_offset.{{p}}", f"{native}{{b}}.conv{{c}}.offset.{{p}}"),
        NamePair(f"{foreign}{{b}}.shortcut.{{p}}", f"{native}{{b}}.downsample.0.{{p}}"),
        NamePair(f"{foreign}{{b}}.shortcut.norm.{{p}}", f"{native}{{b}}.downsample.1.{{p}}"),
    ]


def _body_pairs(foreign: str, native: str) -> list[NamePair]:
    return [
        NamePair(f"{foreign}stem.conv1.{{p}}", f"{native}stem.conv1.{{p}}"),
        NamePair(f"{foreign}stem.conv1.norm.{{p}}", f"{native}stem.bn1.{{p}}"),
        *_stage_pairs(f"{foreign}res{{s+1}}.", f"{native}layer{{s}}."),
    ]


_HEAD_PAIRS = [
    *(
        NamePair(f"{foreign}.{{p}}", f"{native}.{{p}}")
        for foreign, native in (
            ("proposal_generator.rpn_head.conv", "rpn.head.conv"),
            ("proposal_generator.rpn_head.objectness_logits", "rpn.head.cls_logits"),
            ("proposal_generator.rpn_head.anchor_deltas", "rpn.head.bbox_pred"),
            ("roi_heads.box_head.fc{i}", "roi_heads.box.feature_extractor.fc{i+5}"),
            ("roi_heads.box_predictor.cls_score", BOX_PREDICTOR + "cls_score"),
            ("roi_heads.box_predictor.bbox_pred", BOX_PREDICTOR + "bbox_pred"),
            (
                "roi_heads.box_head.{s}.fc{i}",
                "roi_heads.box.stages.{s}.feature_extractor.fc{i+5}",
            ),
            (
                "roi_heads.box_predictor.{s}.cls_score",
                "roi_heads.box.stages.{s}.predictor.cls_score",
            ),
            (
                "roi_heads.box_predictor.{s}.bbox_pred",
                "roi_heads.box.stages.{s}.predictor.bbox_pred",
            ),
            ("roi_heads.mask_head.deconv", "roi_heads.mask.predictor.conv5_mask"),
            ("roi_heads.mask_head.predictor", "roi_heads.mask.predictor.mask_fcn_logits"),
            (
                "roi_heads.keypoint_head.conv_fcn{i}",
                "roi_heads.keypoint.feature_extractor.conv_fcn{i}",
            ),
            (
                "roi_heads.keypoint_head.score_lowres",
                "roi_heads.keypoint.predictor.kps_score_lowres",
            ),
        )
    ),
    *_stage_pairs("roi_heads.res5.", "roi_heads.box.feature_extractor.head.layer4."),
]
# The one-stage head has the same layers in our place of the RPN, so that its pairs go first when
# native names are exported.
_DENSE_PAIRS = [
    NamePair(f"{foreign}.{{p}}", f"{native}.{{p}}")
    for foreign, native in (
        ("head.cls_subnet.{i}", "rpn.head.cls_tower.{i}"),
        ("head.bbox_subnet.{i}", "rpn.head.bbox_tower.{i}"),
        ("head.cls_score", DENSE_LOGITS),
        ("head.bbox_pred", DENSE_OFFSETS),
        ("backbone.top_block.p{i}", "backbone.fpn.top_blocks.p{i}"),
    )
]


def export_pairs(native_names: Collection[str]) -> list[NamePair]:
    """Pairs for a model of these native names; a body below a pyramid has another place there."""
    with_pyramid = any(name.startswith("backbone.fpn.") for name in native_names)
    body = _body_pairs("backbone.bottom_up." if with_pyramid else "backbone.", "backbone.body.")
    dense = _DENSE_PAIRS if is_dense(native_names) else []
    return [*body, *dense, *detectron2_norms.export_pairs(native_names), *_HEAD_PAIRS]


def recognises(names: Collection[str]) -> bool:
    """Tells whether these are detectron2's names."""
    return any(
        name.startswith(("backbone.bottom_up.", "proposal_generator.")) for name in names
    ) or ("stem.conv1.weight" in names and "res2.0.conv1.weight" in names)


def convert(tensors: dict[str, Tensor]) -> ImportedWeights:
    """Brings detectron2's weights into native names, class order and anchor order.

    Raises:
        ValueError: the order of the RPN's anchors cannot be known.
    """
    heads = ("proposal_generator.", "roi_heads.", "head.")
    body_only = not any(name.startswith(heads) for name in tensors)
    body = "" if body_only else "backbone.body."
    pairs = [
        pair
        for source in ("backbone.bottom_up.", "backbone.", "")
        for pair in _body_pairs(source, body)
    ]
    pairs += [*_DENSE_PAIRS, *detectron2_norms.import_pairs(tensors), *_HEAD_PAIRS]
    renamed = rename(tensors, import_rules(pairs), IGNORED)
    native = background_first(renamed.tensors)
    return ImportedWeights(
        format=FORMAT,
        tensors=anchors_ratio_major(
            native, tensors.get(CELL_ANCHORS, tensors.get(_DENSE_CELL_ANCHORS))
        ),
        unmapped=renamed.unmapped,
        ignored=renamed.ignored,
        norm_eps=EPS,
        class_names=coco_names_for(native),
        dialect=None if body_only else FORMAT,
        body_only=body_only,
    )


def anchors_ratio_major(
    tensors: dict[str, Tensor], cell_anchors: Tensor | None
) -> dict[str, Tensor]:
    """Reorders the RPN's channels from the file's anchor order into ratio-major order.

    Args:
        tensors: weights in native names.
        cell_anchors: (A, 4) xyxy anchors of one position where the file has stored them; else the
            layout of the C4 models is taken for 15 anchors, one size per level for 3, and that of
            RetinaNet for its 9.

    Raises:
        ValueError: there are other anchors than these and they are not stored.
    """
    count = anchors_per_position(tensors)
    if count == 0:
        return tensors
    if cell_anchors is not None:
        return to_ratio_major(tensors, ratio_major_order(cell_anchors))
    if count == _C4_RATIOS:
        return tensors
    order = _usual_order(tensors)
    if order is None:
        raise ValueError(
            f"the RPN has {count} anchors per position and the file does not say in which order: "
            f"add the tensor {CELL_ANCHORS!r} (A x 4, the model's anchors) to it"
        )
    return to_ratio_major(tensors, order.tolist())


def anchors_size_major(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``anchors_ratio_major`` for files without stored anchors.

    Raises:
        ValueError: the model has neither the anchors of an FPN, nor of C4, nor of RetinaNet.
    """
    if anchors_per_position(tensors) in (0, _C4_RATIOS):
        return tensors
    order = _usual_order(tensors)
    if order is None:
        raise ValueError(
            f"the RPN has {anchors_per_position(tensors)} anchors per position, which detectron2's "
            "models do not have; their order there is not known"
        )
    return to_ratio_major(tensors, order.argsort().tolist())


def _usual_order(tensors: dict[str, Tensor]) -> Tensor | None:
    """Place in detectron2's C4 models and RetinaNet of each of our anchors; None for others."""
    count = anchors_per_position(tensors)
    sizes = _RETINANET_SIZES if is_dense(tensors) else _C4_SIZES
    if count != sizes * _C4_RATIOS:
        return None
    return torch.arange(count).view(sizes, _C4_RATIOS).T.flatten()


def ratio_major_order(cell_anchors: Tensor) -> list[int]:
    """Returns the anchors' positions, grouped by aspect ratio, each group by size.

    Ratios and sizes keep the order of their first appearance, which is the configuration's.

    Args:
        cell_anchors: (A, 4) xyxy.
    """
    sides = cell_anchors[:, 2:].double() - cell_anchors[:, :2].double()  # (A, 2) width, height
    ratios = _first_appearance(sides[:, 1] / sides[:, 0])
    sizes = _first_appearance(sides.prod(1).sqrt())
    keys = list(zip(ratios, sizes, range(len(sides)), strict=True))
    if len({key[:2] for key in keys}) != len(keys):
        raise ValueError(f"{CELL_ANCHORS!r} holds the same anchor twice")
    return [index for *_, index in sorted(keys)]


def _first_appearance(values: Tensor) -> list[int]:
    """Numbers the distinct values (to 1 %, as anchors may be rounded) as they appear."""
    seen: list[float] = []
    numbers = []
    for value in values.tolist():
        match = [i for i, other in enumerate(seen) if abs(value - other) < 0.01 * other]
        if not match:
            match = [len(seen)]
            seen.append(value)
        numbers.append(match[0])
    return numbers
