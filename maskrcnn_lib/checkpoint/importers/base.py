"""What all importers share: the result they hand over, and renaming by exact patterns."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from maskrcnn_lib.checkpoint.class_names import BACKGROUND, COCO_CLASSES, coco_class_names

NewName = str | Callable[[re.Match[str]], str | None]
"""The native name as a template, or a function that makes it; its None is "no match after all"."""
Rule = tuple[str, NewName]
"""A pattern that the whole foreign name must match, and the native name."""

BOX_PREDICTOR = "roi_heads.box.predictor."
_STAGE = re.compile(r"(roi_heads\.\w+\.)stages\.\d+\.")
_PERSON_NAMES = (BACKGROUND, COCO_CLASSES[0])
_PERSON_KEYPOINTS = 17
DENSE_LOGITS = "rpn.head.cls_logits"
DENSE_OFFSETS = "rpn.head.bbox_pred"
_DENSE_TOWER = "rpn.head.cls_tower."
_BOX_EXTRACTOR = "roi_heads.box.feature_extractor."
_HEADS_THAT_SHARE = ("roi_heads.mask.feature_extractor.", "roi_heads.keypoint.feature_extractor.")
_CLASSIFIER = BOX_PREDICTOR + "cls_score"
_ROWS_OF_BACKGROUND = {
    BOX_PREDICTOR + "bbox_pred": 4,
    "roi_heads.mask.predictor.mask_fcn_logits": 1,
    "roi_heads.mask.iou_head.fc_mask_iou": 1,
}


@dataclass(frozen=True)
class ImportedWeights:
    """A checkpoint in the library's own names and layouts.

    Attributes:
        format: name of the format that was recognised.
        tensors: native parameter name -> value. Background is class 0, anchors are ratio-major.
        unmapped: names in the file that the format's mapping does not know.
        ignored: names in the file that are known and not needed.
        norm_eps: epsilon that the source adds to running_var of its frozen norm layers.
        learned_norms: prefixes of the norm layers that are not frozen in a model of this library
            either, and add their epsilon themselves.
        class_names: one name per label with the background at 0, where they are known.
        dialect: the ``MODEL.DIALECT`` under which the file gives its published numbers.
        body_only: the names are relative to a ResNet body ("stem.conv1.weight"), whose place in the
            model is to be found; so it is with files of ImageNet classifiers.
    """

    format: str
    tensors: dict[str, Tensor]
    unmapped: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    norm_eps: float = 0.0
    learned_norms: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    dialect: str | None = None
    body_only: bool = False


@dataclass(frozen=True)
class Renamed:
    """Outcome of ``rename``: what got a native name, what is not needed, what is unknown."""

    tensors: dict[str, Tensor]
    ignored: list[str]
    unmapped: list[str]


def rename(
    tensors: dict[str, Tensor], rules: Sequence[Rule], ignored: Iterable[str] = ()
) -> Renamed:
    """Gives each tensor the native name of the first rule whose pattern matches its whole name.

    Args:
        tensors: foreign name -> tensor.
        rules: tried in order.
        ignored: patterns of whole names that are known and not needed; tried first.

    Raises:
        ValueError: two foreign names mean the same native one.
    """
    compiled = [(re.compile(pattern), native) for pattern, native in rules]
    unneeded = [re.compile(pattern) for pattern in ignored]
    result = Renamed({}, [], [])
    origin: dict[str, str] = {}
    for name, tensor in tensors.items():
        if any(pattern.fullmatch(name) for pattern in unneeded):
            result.ignored.append(name)
            continue
        native = _native_name(name, compiled)
        if native is None:
            result.unmapped.append(name)
            continue
        if native in origin:
            raise ValueError(f"{origin[native]!r} and {name!r} both stand for {native!r}")
        origin[native] = name
        result.tensors[native] = tensor
    return result


def _native_name(name: str, rules: Sequence[tuple[re.Pattern[str], NewName]]) -> str | None:
    for pattern, native in rules:
        match = pattern.fullmatch(name)
        if match:
            new = native(match) if callable(native) else match.expand(native)
            if new is not None:
                return new
    return None


def coco_names_for(
    tensors: dict[str, Tensor], names: tuple[str, ...] | None = None
) -> tuple[str, ...] | None:
    """The COCO names of a classifier that has as many classes as COCO models; else None.

    A model of one class and a person's keypoints finds persons.

    Args:
        tensors: weights in native names.
        names: one per label of models of all classes; by default of those with 80 classes.
    """
    count = class_count(tensors)
    if count == len(_PERSON_NAMES) and _gives_person_keypoints(tensors):
        return _PERSON_NAMES
    names = names or coco_class_names()
    return names if count == len(names) else None


def _gives_person_keypoints(tensors: dict[str, Tensor]) -> bool:
    """Whether the last layer of the keypoint head, plain or a block of layers, has 17 outputs."""
    prefix = "roi_heads.keypoint.predictor.kps_score_lowres."
    biases = (tensors.get(prefix + name) for name in ("bias", "pwl.conv.bias"))
    return any(bias is not None and len(bias) == _PERSON_KEYPOINTS for bias in biases)


def without_stage(name: str) -> str:
    """The name that a parameter of a cascade's stage has in a head without stages."""
    return _STAGE.sub(r"\1", name, count=1)


def class_count(tensors: Mapping[str, Tensor]) -> int | None:
    """Classes with the background of native weights; None where they have no classifier."""
    for name, weight in tensors.items():
        if without_stage(name) == _CLASSIFIER + ".weight":
            return len(weight)
    logits, anchors = _rows(tensors, DENSE_LOGITS), anchors_per_position(tensors)
    return logits // anchors + 1 if is_dense(tensors) and logits and anchors else None


def is_dense(tensors: Iterable[str]) -> bool:
    """Whether native weights are of a one-stage detector, whose ``rpn.head`` tells classes."""
    return any(name.startswith(_DENSE_TOWER) for name in tensors)


def anchors_per_position(tensors: Mapping[str, Tensor]) -> int:
    """Number of anchors that the native ``rpn.head`` answers for at each position; 0: unknown."""
    return _rows(tensors, DENSE_OFFSETS) // 4


def _rows(tensors: Mapping[str, Tensor], layer: str) -> int:
    """Output channels of a layer, by either of its parameters; 0 where both are missing."""
    return max(len(tensors.get(f"{layer}.{suffix}", ())) for suffix in ("weight", "bias"))


def heads_that_repeat_the_box_head(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Prefixes of feature extractors that hold everything of the box head's once more.

    Shared heads are one module in a model, and some toolboxes store it once per head.
    """
    return tuple(prefix for prefix in _HEADS_THAT_SHARE if _repeats_box_head(prefix, tensors))


def _repeats_box_head(prefix: str, tensors: Mapping[str, Tensor]) -> bool:
    for name, value in tensors.items():
        if name.startswith(prefix):
            original = tensors.get(_BOX_EXTRACTOR + name.removeprefix(prefix))
            if original is None or not torch.equal(original, value):
                return False
    return True


def background_first(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Moves the background from the last class to class 0, in native names.

    Foreign layout with K classes: ``cls_score`` has K + 1 rows with the background last,
    ``bbox_pred`` has 4 K rows and the mask logits K channels. Ours has K + 1 of each (times 4), the
    background first; the rows of the background that nobody uses are zero.
    """
    moved = dict(tensors)
    for name, value in tensors.items():
        layer = _layer(name)
        if layer == _CLASSIFIER:
            moved[name] = torch.cat((value[-1:], value[:-1]))
        elif layer in _ROWS_OF_BACKGROUND:
            rows = value.new_zeros(_ROWS_OF_BACKGROUND[layer], *value.shape[1:])
            moved[name] = torch.cat((rows, value))
    return moved


def background_last(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``background_first``."""
    moved = dict(tensors)
    for name, value in tensors.items():
        layer = _layer(name)
        if layer == _CLASSIFIER:
            moved[name] = torch.cat((value[1:], value[:1]))
        elif layer in _ROWS_OF_BACKGROUND:
            moved[name] = value[_ROWS_OF_BACKGROUND[layer] :]
    return moved


def _layer(name: str) -> str:
    """Name of the layer that a parameter belongs to, whatever its stage."""
    return without_stage(name).rpartition(".")[0]


def to_ratio_major(tensors: dict[str, Tensor], order: Sequence[int]) -> dict[str, Tensor]:
    """Reorders the anchors of the output channels of an RPN, or of a one-stage detector.

    Args:
        tensors: weights in native names.
        order: ``order[i]`` is the position in the file of the anchor that is the i-th of ours.
    """
    permuted = dict(tensors)
    index = torch.as_tensor(order)
    classes = max(1, _rows(tensors, DENSE_LOGITS) // len(index)) if is_dense(tensors) else 1
    for layer, values in ((DENSE_LOGITS, classes), (DENSE_OFFSETS, 4)):
        for suffix in ("weight", "bias"):
            name = f"{layer}.{suffix}"
            if name in permuted:
                value = permuted[name]
                if len(value) != values * len(index):
                    raise ValueError(
                        f"{name} has {len(value)} channels for {len(index)} anchors of {values}"
                    )
                per_anchor = value.unflatten(0, (len(index), values))  # (A, values, ...)
                permuted[name] = per_anchor[index].flatten(0, 1)
    return permuted
