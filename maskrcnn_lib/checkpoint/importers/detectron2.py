"""detectron2's R-CNN (C4 and FPN) and RetinaNet checkpoints, and its ImageNet classifiers.

The background is the last class there, mask channels and box deltas have none, and the anchors of
one feature map are ordered by size first; all of this is brought into the native order.
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
    anchors_per_position,
    background_first,
    coco_names_for,
    is_dense,
    rename,
    to_ratio_major,
)

FORMAT = "detectron2"

# Pixel statistics come from the configuration, anchors are made from it; the classifier is unused.
IGNORED = (
    r"pixel_(?:mean|std)",
    r"(?:proposal_generator\.)?anchor_generator\.cell_anchors\.\d+",
    r"(?:stem\.)?fc\.(?:weight|bias)",
)

_EPS = 1e-5
CELL_ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"
_DENSE_CELL_ANCHORS = "anchor_generator.cell_anchors.0"
# Anchors at one position of the C4 models: 5 sizes, each in 3 aspect ratios.
_C4_SIZES, _C4_RATIOS = 5, 3
# And of RetinaNet: 3 sizes.
_RETINANET_SIZES = 3

_PARAMETER = "(?P<parameter>weight|bias|running_mean|running_var|num_batches_tracked)"
_BLOCK = (
    r"res(?P<stage>[2-5])\.(?P<block>\d+)\.(?P<layer>conv[123]|shortcut)(?P<norm>\.norm)?\."
    + _PARAMETER
)

_HEADS: tuple[tuple[str, str], ...] = (
    (r"proposal_generator\.rpn_head\.conv", "rpn.head.conv"),
    (r"proposal_generator\.rpn_head\.objectness_logits", "rpn.head.cls_logits"),
    (r"proposal_generator\.rpn_head\.anchor_deltas", "rpn.head.bbox_pred"),
    (r"roi_heads\.box_head\.fc1", "roi_heads.box.feature_extractor.fc6"),
    (r"roi_heads\.box_head\.fc2", "roi_heads.box.feature_extractor.fc7"),
    (r"roi_heads\.box_predictor\.(cls_score|bbox_pred)", BOX_PREDICTOR + r"\1"),
    (r"roi_heads\.mask_head\.(mask_fcn\d+)", r"roi_heads.mask.feature_extractor.\1"),
    (r"roi_heads\.mask_head\.deconv", "roi_heads.mask.predictor.conv5_mask"),
    (r"roi_heads\.mask_head\.predictor", "roi_heads.mask.predictor.mask_fcn_logits"),
    (r"roi_heads\.keypoint_head\.(conv_fcn\d+)", r"roi_heads.keypoint.feature_extractor.\1"),
    (
        r"roi_heads\.keypoint_head\.score_lowres",
        "roi_heads.keypoint.predictor.kps_score_lowres",
    ),
    (r"head\.(cls|bbox)_subnet\.(\d+)", r"rpn.head.\1_tower.\2"),
    (r"head\.cls_score", DENSE_LOGITS),
    (r"head\.bbox_pred", DENSE_OFFSETS),
    (r"backbone\.top_block\.(p[67])", r"backbone.fpn.top_blocks.\1"),
)


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
    renamed = rename(tensors, _rules("" if body_only else "backbone.body."), IGNORED)
    native = background_first(renamed.tensors)
    return ImportedWeights(
        format=FORMAT,
        tensors=anchors_ratio_major(
            native, tensors.get(CELL_ANCHORS, tensors.get(_DENSE_CELL_ANCHORS))
        ),
        unmapped=renamed.unmapped,
        ignored=renamed.ignored,
        norm_eps=_EPS,
        class_names=coco_names_for(native),
        dialect=None if body_only else FORMAT,
        body_only=body_only,
    )


def _rules(body: str) -> list[Rule]:
    def block(match: re.Match[str], home: str) -> str:
        layer = match["layer"].replace("shortcut", "downsample.0")
        if match["norm"]:
            layer = layer.replace("conv", "bn").replace("downsample.0", "downsample.1")
        stage = int(match["stage"]) - 1
        return f"{home}layer{stage}.{match['block']}.{layer}.{match['parameter']}"

    source = r"(?:backbone\.(?:bottom_up\.)?)?"
    rules: list[Rule] = [
        (rf"{source}stem\.conv1\.{_PARAMETER}", rf"{body}stem.conv1.\g<parameter>"),
        (rf"{source}stem\.conv1\.norm\.{_PARAMETER}", rf"{body}stem.bn1.\g<parameter>"),
        (source + _BLOCK, lambda match: block(match, body)),
        (
            r"roi_heads\." + _BLOCK,
            lambda match: block(match, "roi_heads.box.feature_extractor.head."),
        ),
        (
            r"backbone\.fpn_(lateral|output)([2-5])\.(weight|bias)",
            lambda match: (
                f"backbone.fpn.fpn_{'inner' if match[1] == 'lateral' else 'layer'}"
                f"{int(match[2]) - 1}.{match[3]}"
            ),
        ),
    ]
    rules += [(rf"{name}\.(?P<p>weight|bias)", rf"{native}.\g<p>") for name, native in _HEADS]
    return rules


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
    sizes = _RETINANET_SIZES if is_dense(tensors) else _C4_SIZES
    if count == sizes * _C4_RATIOS:
        order = torch.arange(count).view(sizes, _C4_RATIOS).T.flatten()
        return to_ratio_major(tensors, order.tolist())
    raise ValueError(
        f"the RPN has {count} anchors per position and the file does not say in which order: add "
        f"the tensor {CELL_ANCHORS!r} (A x 4, the model's anchors) to it"
    )


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
