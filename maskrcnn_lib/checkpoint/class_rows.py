"""Brings the rows of a classifier that learned other classes into the order of ours, by name.

Who fine-tunes a COCO model on cats and balloons keeps what it knows of cats.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

# Parameters with rows per class, the background first, and their rows per class.
_ROWS = {
    "roi_heads.box.predictor.cls_score": 1,
    "roi_heads.box.predictor.bbox_pred": 4,
    "roi_heads.mask.predictor.mask_fcn_logits": 1,
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
    for prefix, group in _ROWS.items():
        for name in (f"{prefix}.weight", f"{prefix}.bias"):
            if name not in weights or name not in targets:
                continue
            old, new = weights[name], targets[name].detach()
            fits = (len(old), len(new)) == (group * len(old_names), group * len(new_names))
            if not fits or old.shape[1:] != new.shape[1:]:
                continue
            value = new.clone().reshape(len(new_names), group, *new.shape[1:])
            rows = old.to(value).reshape(len(old_names), group, *old.shape[1:])
            for row, taken in pairs:
                value[row] = rows[taken]
            rearranged[name] = value.reshape(new.shape)
            chosen.append(name)
    return rearranged, chosen
