"""Loads weights of any known format into a model and says what became of each tensor."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from maskrcnn_lib.checkpoint import native
from maskrcnn_lib.checkpoint.class_rows import rearrange_classes
from maskrcnn_lib.checkpoint.download import resolve_weights
from maskrcnn_lib.checkpoint.files import read_checkpoint
from maskrcnn_lib.checkpoint.importers import (
    IMPORTERS,
    ImportedWeights,
    maskrcnn_benchmark,
    mmdetection,
)
from maskrcnn_lib.checkpoint.importers.base import (
    BOX_PREDICTOR,
    DENSE_LOGITS,
    heads_that_repeat_the_box_head,
    without_stage,
)
from maskrcnn_lib.checkpoint.report import LoadReport
from maskrcnn_lib.layers import FrozenBatchNorm2d

__all__ = ["LoadReport", "load_weights"]

logger = logging.getLogger(__name__)

_COUNTER = "num_batches_tracked"
# Where files keep their parameters: maskrcnn-benchmark and detectron2, Detectron, and others.
_CONTAINERS = ("model", "blobs", "state_dict")
_EXAMPLES = 3


def load_weights(
    model: nn.Module,
    path_or_state_dict: str | Path | Mapping[str, Any],
    *,
    strict: bool = False,
    norm_eps: float | None = None,
    class_names: Sequence[str] | None = None,
) -> LoadReport:
    """Loads weights of any known format into ``model``, in place.

    The format is recognised by the parameter names inside, never by the file's name. Known are our
    own files, maskrcnn-benchmark, Detectron (Caffe2), torchvision, detectron2, D2Go, mmdetection,
    and ResNet classifiers of these for a body. Layouts are converted to ours (class order, anchor
    order, norm epsilon). Each tensor is matched by its exact name; a table of what was loaded,
    missing, unexpected and reinitialised is logged and returned.

    Args:
        model: a module with native parameter names, or any module for weights of its own.
        path_or_state_dict: a file, the name of weights in the catalog or their URL, or what such a
            file contains: a dictionary of tensors or numpy arrays.
        strict: whether any missing, unexpected or reinitialised tensor is an error.
        norm_eps: the epsilon of the source's frozen norm layers, where it is not its format's usual
            one (torchvision's 1e-5 is 0 in some of its models).
        class_names: the model's classes, the background first, where they may be others than the
            file's: what the file knows of classes of the same name is kept.

    Raises:
        FileNotFoundError: the file cannot be found or fetched.
        ValueError: the file is damaged or of no known format, nothing in it fits the model, or
            ``strict`` and something does not; the model is unchanged in all of these cases.
    """
    if isinstance(path_or_state_dict, Mapping):
        source, content = "weights given as a dictionary", path_or_state_dict
    else:
        path = resolve_weights(path_or_state_dict)
        source, content = str(path), read_checkpoint(path)
    return load_content(
        model, content, source=source, strict=strict, norm_eps=norm_eps, class_names=class_names
    )


def load_content(
    model: nn.Module,
    content: Any,
    *,
    source: str,
    strict: bool = False,
    norm_eps: float | None = None,
    class_names: Sequence[str] | None = None,
) -> LoadReport:
    """Does the work of ``load_weights`` for the content of a file that has been read already."""
    model = native.bare_model(model)
    targets = model.state_dict(keep_vars=True)
    weights = import_content(content, targets, source=source, classifier=_classifier_in(model))
    rearranged: list[str] = []
    if class_names and weights.class_names:
        tensors, rearranged = rearrange_classes(
            weights.tensors, targets, weights.class_names, class_names
        )
        if rearranged:
            weights = replace(weights, tensors=tensors, class_names=tuple(class_names))
    placed, unexpected, unneeded = _place(weights, targets, source)
    report = _report(weights, placed, targets, unexpected, unneeded, source)
    report.rearranged.extend(rearranged)
    fitting = {name: placed[name] for name in placed if name not in report.shapes}
    broken = [n for n, value in fitting.items() if not (value.is_meta or value.isfinite().all())]
    if broken:
        raise ValueError(
            f"{source} holds values that are not finite, in {len(broken)} of {len(fitting)} "
            f"tensors, such as {broken[0]}: it is of a training that diverged, or damaged"
        )
    if not fitting:
        raise ValueError(f"nothing in this file fits the model:\n{report}")
    if strict and not report.complete:
        raise ValueError(f"the weights do not fit the model exactly:\n{report}")
    _copy(model, fitting, targets, weights.norm_eps if norm_eps is None else norm_eps)
    quiet = report.complete or weights.body_only
    logger.log(logging.INFO if quiet else logging.WARNING, "%s", report)
    return report


def _report(
    weights: ImportedWeights,
    placed: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    unexpected: list[str],
    unneeded: list[str],
    source: str,
) -> LoadReport:
    """Says what will become of each tensor of the file and of the model."""
    shapes = {
        name: (tuple(value.shape), tuple(targets[name].shape))
        for name, value in placed.items()
        if value.shape != targets[name].shape
    }
    # A layer that stands in the model under several names needs its values once.
    filled = {id(targets[name]) for name in placed if name not in shapes}
    refused = {id(targets[name]) for name in shapes}
    missing = [
        name
        for name, target in targets.items()
        if id(target) not in filled | refused and not name.endswith(_COUNTER)
    ]
    classifier = BOX_PREDICTOR
    if not any(without_stage(name).startswith(BOX_PREDICTOR) for name in targets):
        classifier = DENSE_LOGITS
    lost = (*missing, *shapes)
    classifier_lost = any(without_stage(name).startswith(classifier) for name in lost)
    return LoadReport(
        format=weights.format,
        loaded=[name for name, target in targets.items() if id(target) in filled],
        missing=missing,
        unexpected=sorted(unexpected + weights.unmapped),
        reinitialised=list(shapes),
        class_names=None if classifier_lost else weights.class_names,
        ignored=weights.ignored + unneeded,
        dialect=weights.dialect,
        source=source,
        shapes=shapes,
    )


class _Classifier(NamedTuple):
    """The classifier of another library that a body keeps, with that library's names.

    Attributes:
        prefix: of its parameters in the whole model.
        names: of its parameters and statistics, those that the body has.
        norm_eps: epsilon of its batch norms, as far as frozen norms in the body have none.
    """

    prefix: str
    names: frozenset[str]
    norm_eps: float


def _classifier_in(model: nn.Module) -> _Classifier | None:
    """A body that keeps one holds it as ``model`` and says ``classifier_eps``."""
    for path, module in model.named_modules():
        if hasattr(module, "classifier_eps"):
            names = (name for name in module.model.state_dict() if not name.endswith(_COUNTER))
            prefix = f"{path}.model." if path else "model."
            return _Classifier(prefix, frozenset(names), module.classifier_eps)
    return None


def import_content(
    content: Any,
    targets: Mapping[str, Tensor] | None = None,
    *,
    source: str,
    classifier: _Classifier | None = None,
) -> ImportedWeights:
    """Recognises the format of a file's content and converts it to native names and layouts.

    Args:
        content: what ``read_checkpoint`` gives.
        targets: parameters of the model that the weights are for: it may be one with names of its
            own, whose plain ``state_dict`` is no other toolbox's format.
        source: where the content came from, for messages.
        classifier: that the model's body keeps; its own library's files have its names.

    Raises:
        ValueError: the format is not known.
    """
    targets = targets or {}
    if not isinstance(content, Mapping):
        raise ValueError(f"{source} holds a {type(content).__name__}, not a dictionary of weights")
    if native.is_native(content):
        names = content.get("class_names")
        return ImportedWeights(
            format=native.FORMAT,
            tensors=_tensors(content["model"])[0],
            class_names=tuple(names) if names else None,
            dialect=native.stored_dialect(content),
        )
    container = next((key for key in _CONTAINERS if isinstance(content.get(key), Mapping)), None)
    tensors, other = _tensors(content[container] if container else content)
    if not tensors:
        raise ValueError(f"{source} holds no tensors; its keys are {sorted(map(str, content))}")
    wrapped = container is not None and maskrcnn_benchmark.recognises(tensors.keys())
    if tensors.keys() == targets.keys() and not wrapped:
        return ImportedWeights(format="state_dict", tensors=tensors, ignored=other)
    if classifier is not None and classifier.names <= tensors.keys():
        return ImportedWeights(
            format="classifier",
            tensors={classifier.prefix + name: tensors[name] for name in classifier.names},
            ignored=[*other, *(name for name in tensors if name not in classifier.names)],
            norm_eps=classifier.norm_eps,
            body_only=True,
        )
    for importer in IMPORTERS:
        if importer.recognises(tensors.keys()):
            imported = importer.convert(tensors)
            imported.ignored.extend(other)
            names = mmdetection.stored_class_names(content)
            return replace(imported, class_names=names) if names else imported
    if not tensors.keys().isdisjoint(targets):
        return ImportedWeights(format="state_dict", tensors=tensors, ignored=other)
    model = f", the model {_some(targets)}" if targets else ""
    raise ValueError(f"{source} is of no known format: it holds {_some(tensors)}{model}")


def _tensors(mapping: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[str]]:
    """Splits a dictionary into tensors, without a prefix "module." common to all, and the rest."""
    tensors = {str(name): _tensor(value) for name, value in mapping.items() if _is_array(value)}
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors, [str(name) for name, value in mapping.items() if not _is_array(value)]


def _is_array(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray))


def _tensor(value: Tensor | np.ndarray) -> Tensor:
    return value.detach() if isinstance(value, Tensor) else torch.from_numpy(value)


def _place(
    weights: ImportedWeights, targets: Mapping[str, Tensor], source: str
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Assigns each tensor to the model's names.

    Returns:
        The assigned tensors, the names that found no place, and the names that need none.
    """
    placed: dict[str, Tensor] = {}
    homeless = []
    for name, value in weights.tensors.items():
        if weights.body_only:
            places = _body_places(name, targets)
        else:
            places = [name] if name in targets else []
        for place in places:
            if place in placed:
                raise ValueError(f"{source} holds two tensors for {place!r}, one is {name!r}")
            placed[place] = value
        if not places:
            homeless.append(name)
    repeats = heads_that_repeat_the_box_head(weights.tensors) if homeless else ()
    unneeded = [name for name in homeless if name.endswith(_COUNTER) or name.startswith(repeats)]
    unexpected = [name for name in homeless if name not in unneeded]
    return placed, unexpected, unneeded


def _body_places(name: str, targets: Mapping[str, Tensor]) -> list[str]:
    """Finds the model's parameters that a ResNet body's ``name`` stands for.

    Raises:
        ValueError: several different parameters end in that name. Copies of the last stage in the
            heads of a C4 model are not different: each begins as the ImageNet stage.
    """
    places = [target for target in targets if target == name or target.endswith(f".{name}")]
    different = {
        id(targets[place])
        for place in places
        if not place.endswith(f".feature_extractor.head.{name}")
    }
    if len(different) > 1:
        raise ValueError(f"{name!r} of the body could be any of {places} in the model")
    return places


@torch.no_grad()
def _copy(
    model: nn.Module, values: Mapping[str, Tensor], targets: Mapping[str, Tensor], norm_eps: float
) -> None:
    """Copies the values in; a frozen norm takes the difference in epsilon into its variance."""
    own_eps = dict(_frozen_norm_eps(model))
    for name, value in values.items():
        if name in own_eps:
            full = value.to(torch.promote_types(value.dtype, torch.float32))
            value = full + (norm_eps - own_eps[name])
        targets[name].copy_(value)


def _frozen_norm_eps(model: nn.Module) -> Iterator[tuple[str, float]]:
    """Yields the name of each frozen norm's running_var with the epsilon that the layer adds."""
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, FrozenBatchNorm2d):
            yield f"{name}.running_var".lstrip("."), float(getattr(module, "eps", 0.0))


def _some(names: Mapping[str, Any]) -> str:
    return ", ".join(repr(str(name)) for name in list(names)[:_EXAMPLES]) + ", ..."
