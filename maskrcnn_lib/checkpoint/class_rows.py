"""Brings the rows of a classifier that learned other classes into the order of ours, by name.

Who fine-tunes a COCO model on cats and balloons keeps what it knows of cats.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from maskrcnn_lib.checkpoint.importers.base import (
    DENSE_LOGITS,
    anchors_per_position,
    without_stage,
)

# Parameters with rows per class, the background first, and their rows per class.
_ROWS = {
    "roi_heads.box.predictor.cls_score": 1,
    "roi_heads.box.predictor.bbox_pred": 4,
    "roi_heads.mask.predictor.mask_fcn_logits": 1,
    "roi_heads.mask.iou_head.fc_mask_iou": 1,
}


def rearrange_classes(
    weights: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    old_names: Sequence[str],
    new_names: Sequence[str],
) -> tuple[dict[str, Tensor], list[str]]:
    """Makes the weights fit a model of other classes.

    Args:
        weights: a file's parameters in native names.
        targets: the model's parameters; rows of classes that the file does not know are theirs.
        old_names, new_names: class per label of the file and of the model, the background first.

    Returns:
        The weights, and the names of the parameters whose rows were chosen by class. Both are as
        they were where the names agree or no class but the background has a namesake.
    """
    source = {name: row for row, name in enumerate(old_names)}
    pairs = [(0, 0)]  # the background, whatever it is called
    pairs += [(row, source[name]) for row, name in enumerate(new_names) if row and name in source]
    rearranged = dict(weights)
    if list(old_names[1:]) == list(new_names[1:]) or len(pairs) == 1:
        return rearranged, []
    chosen = []
    counts = len(old_names), len(new_names)
    for prefix, group in _ROWS.items():
        for name in _parameters(prefix, weights, targets):
            value = _rows_by_class(weights[name], targets[name], (1, group), counts, pairs)
            if value is not None:
                rearranged[name] = value
                chosen.append(name)
    # A one-stage detector has rows for each anchor, and in these one per class, without background.
    anchors = anchors_per_position(weights)
    foreground = [(row - 1, taken - 1) for row, taken in pairs[1:]]
    for name in _parameters(DENSE_LOGITS, weights, targets):
        without_background = counts[0] - 1, counts[1] - 1
        value = _rows_by_class(
            weights[name], targets[name], (anchors, 1), without_background, foreground
        )
        if value is not None:
            rearranged[name] = value
            chosen.append(name)
    return rearranged, chosen


def _parameters(
    prefix: str, weights: Mapping[str, Tensor], targets: Mapping[str, Tensor]
) -> list[str]:
    """The layer's parameters in both, those of all stages of a cascade."""
    names = (f"{prefix}.weight", f"{prefix}.bias")
    return [name for name in weights if without_stage(name) in names and name in targets]


def _rows_by_class(
    old: Tensor,
    new: Tensor,
    groups: tuple[int, int],
    counts: tuple[int, int],
    pairs: Sequence[tuple[int, int]],
) -> Tensor | None:
    """The model's tensor with rows of the file's; None where the shapes do not fit the classes.

    Args:
        old, new: (outer * classes * inner, ...) of the file and of the model.
        groups: outer and inner number of rows.
        counts: classes of the file and of the model.
        pairs: class of the model, and class of the file that its rows come from.
    """
    outer, inner = groups
    fits = (len(old), len(new)) == tuple(outer * count * inner for count in counts)
    if not fits or old.shape[1:] != new.shape[1:]:
        return None
    value = new.detach().clone().reshape(outer, counts[1], inner, *new.shape[1:])
    rows = old.to(value).reshape(outer, counts[0], inner, *old.shape[1:])
    for row, taken in pairs:
        value[:, row] = rows[:, taken]
    return value.reshape(new.shape)
