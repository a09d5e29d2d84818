"""Weights in the names and layouts of other toolboxes: the importers' tables, read backwards.

Only names and layouts change. Whether another toolbox finds the same boxes depends on its
conventions as well (anchors, RoIAlign, pixel statistics); see config/dialects.py.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from maskrcnn_lib.checkpoint import native
from maskrcnn_lib.checkpoint.importers import (
    ImportedWeights,
    detectron2,
    torchvision,
    torchvision_retinanet,
    torchvision_v2,
)
from maskrcnn_lib.checkpoint.importers.base import (
    background_last,
    heads_that_repeat_the_box_head,
    rename,
)
from maskrcnn_lib.checkpoint.importers.name_pairs import NamePair, export_rules

FORMATS = (native.FORMAT, torchvision.FORMAT, detectron2.FORMAT)

_VARIANCE, _COUNTER = "running_var", "num_batches_tracked"
_BATCH_NORM_EPS = 1e-5  # of torch's batch norm, which counts its batches
_EXAMPLES = 5


class _Target(NamedTuple):
    """Layout of a foreign format."""

    tensors: dict[str, Tensor]
    pairs: Sequence[NamePair]
    norm_eps: float


def export_weights(weights: ImportedWeights, to: str) -> dict[str, Tensor]:
    """The tensors of a whole model in the format ``to``.

    Args:
        weights: as an importer gives them.
        to: one of ``FORMATS``. Of native weights the frozen norm has no epsilon.

    Returns:
        Name -> tensor as that toolbox's model has it. A head that shares the box head's layers is
        in there once.

    Raises:
        ValueError: unknown format; the weights are a body alone, or hold layers that the format has
            no name for.
    """
    if weights.body_only:
        raise ValueError(f"the file ({weights.format}) holds a body alone, not a whole detector")
    if to == native.FORMAT:
        shifted = _with_norm_eps(weights.tensors, weights.norm_eps, 0.0)
        return {
            name: weights.tensors[name] if name.startswith(weights.learned_norms) else value
            for name, value in shifted.items()
        }
    if to not in FORMATS:
        raise ValueError(f"there is no exporter to {to!r}; choose from {', '.join(FORMATS)}")
    repeated = heads_that_repeat_the_box_head(weights.tensors)
    kept = {n: value for n, value in weights.tensors.items() if not n.startswith(repeated)}
    target = _torchvision(kept) if to == torchvision.FORMAT else _detectron2(kept)
    renamed = rename(target.tensors, export_rules(target.pairs))
    _check_all_named(renamed.unmapped, to)
    return _with_norm_eps(renamed.tensors, _norm_eps(weights), target.norm_eps)


def _torchvision(tensors: dict[str, Tensor]) -> _Target:
    pairs = [
        *torchvision_retinanet.export_pairs(tensors),
        *torchvision_v2.export_pairs(tensors),
        *torchvision.PAIRS,
    ]
    return _Target(torchvision_retinanet.with_background(tensors), pairs, torchvision.EPS)


def _detectron2(tensors: dict[str, Tensor]) -> _Target:
    laid_out = detectron2.anchors_size_major(background_last(tensors))
    return _Target(laid_out, detectron2.export_pairs(tensors), detectron2.EPS)


def _norm_eps(weights: ImportedWeights) -> float:
    """Epsilon of the source's norm layers, which are all of one kind."""
    if weights.format == native.FORMAT and any(n.endswith(_COUNTER) for n in weights.tensors):
        return _BATCH_NORM_EPS
    return weights.norm_eps


def _with_norm_eps(
    tensors: Mapping[str, Tensor], old_eps: float, new_eps: float
) -> dict[str, Tensor]:
    """The variances such that a norm layer that adds ``new_eps`` gives what ``old_eps`` gave."""
    return {
        name: _shifted(value, old_eps - new_eps) if name.endswith(_VARIANCE) else value
        for name, value in tensors.items()
    }


def _shifted(value: Tensor, offset: float) -> Tensor:
    if offset == 0:
        return value
    return value.to(torch.promote_types(value.dtype, torch.float32)) + offset


def _check_all_named(unmapped: Collection[str], to: str) -> None:
    if not unmapped:
        return
    some = ", ".join(sorted(unmapped)[:_EXAMPLES])
    raise ValueError(
        f"{len(unmapped)} tensors have no name in {to}'s models, nothing was written: {some}"
        f"{', ...' if len(unmapped) > _EXAMPLES else ''}"
    )
