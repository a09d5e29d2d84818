"""Cityscapes' instance-level average precision (Cordts et al., CVPR 2016, section 4.3).

The rules of the benchmark's own script, which differ from COCO's:
- objects of fewer than 100 pixels do not count;
- an object is found by every mask whose IoU with it is above the threshold; the most confident one
  is right and the others are wrong;
- a mask that finds nothing is not wrong where more than the threshold's share of it lies on ignored
  pixels, on groups of its class or on small objects of its class;
- the curve is summed with steps between neighbouring recalls, thresholds of equal confidence at
  once.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from maskrcnn_lib.evaluation.overlaps import encode, intersections, mask_areas, run_lengths
from maskrcnn_lib.evaluation.scores import IOU_THRESHOLDS, Scores, mean_of_known

MIN_REGION = 100  # pixels
# Label ids of pixels that are not evaluated: unlabelled, ego vehicle, rectification border, out of
# region of interest, static, dynamic, ground, parking, rail track, guard rail, bridge, tunnel,
# pole group, caravan, trailer. Single caravans and trailers have other numbers in the files, and
# the benchmark's script does not ignore those.
VOID_IDS = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)
_PER_CLASS = 1000  # instance number = label id * 1000 + count; smaller ones are groups


class _ImageMatches(NamedTuple):
    """The masks of one class found in one image, and its objects there.

    Attributes:
        confidence: (D,).
        iou: (D, G) with the objects, small ones included.
        counts: (G,) whether an object is large enough to count.
        ignored: (D,) share of a mask that lies where it cannot be wrong.
    """

    confidence: np.ndarray
    iou: np.ndarray
    counts: np.ndarray
    ignored: np.ndarray


def evaluate_cityscapes(
    truth: Iterable[np.ndarray],
    results: Sequence[Sequence[Mapping[str, Any]]],
    class_names: Mapping[int, str],
) -> Scores:
    """Scores masks by Cityscapes' rules.

    Args:
        truth: per image (H, W) integers: the pixels of the ``instanceIds`` PNG.
        results: per image its masks: COCO results with ``segmentation``, ``score`` and the label
            id as ``category_id``.
        class_names: label id -> name of the classes to evaluate.

    Returns:
        ``AP``, the mean over IoUs of 0.5 to 0.95 and over the classes, and ``AP50``. Per class: AP.
    """
    matches: dict[int, list[_ImageMatches]] = defaultdict(list)
    for ids, found in zip(truth, results, strict=True):
        for label_id, match in _match_image(ids, found, class_names):
            matches[label_id].append(match)
    table = np.array(
        [[_average_precision(matches[i], t) for t in IOU_THRESHOLDS] for i in class_names]
    ).reshape(len(class_names), len(IOU_THRESHOLDS))
    per_class = {
        name: mean_of_known(row) for name, row in zip(class_names.values(), table, strict=True)
    }
    metrics = {"AP": mean_of_known(table), "AP50": mean_of_known(table[:, 0])}
    return Scores("segm", metrics, per_class, "Cityscapes' rules")


def _match_image(
    ids: np.ndarray, found: Sequence[Mapping[str, Any]], class_names: Mapping[int, str]
) -> Iterable[tuple[int, _ImageMatches]]:
    """Per class of which there are objects or masks: how they overlap."""
    columns = np.asfortranarray(ids)  # as run lengths go
    numbers, pixels = np.unique(columns, return_counts=True)
    labels = np.where(numbers < _PER_CLASS, numbers, numbers // _PER_CLASS)
    void = encode(np.isin(columns, VOID_IDS)) if found else None
    for label_id in class_names:
        chosen = labels == label_id
        results = [entry for entry in found if entry["category_id"] == label_id]
        codes = [run_lengths(entry["segmentation"], ids.shape) for entry in results]
        areas = mask_areas(codes)
        regions = [encode(columns == number) for number in numbers[chosen]] if codes else []
        shared = intersections(codes, regions).reshape(len(codes), int(chosen.sum()))
        sizes, is_group = pixels[chosen], numbers[chosen] < _PER_CLASS
        small = sizes < MIN_REGION
        ignored = intersections(codes, [void])[:, 0] + shared @ is_group + shared @ small
        kept = areas > 0  # a mask without pixels is none
        match = _ImageMatches(
            confidence=np.array([entry["score"] for entry in results], np.float64)[kept],
            iou=(shared / (areas[:, None] + sizes - shared))[kept],
            counts=~(is_group | small),
            ignored=ignored[kept] / areas[kept],
        )
        yield label_id, match


def _average_precision(matches: Sequence[_ImageMatches], threshold: float) -> float:
    """AP of one class at one IoU; NaN where there is nothing to find."""
    right, wrong, missed = [np.zeros(0)], [np.zeros(0)], 0
    for match in matches:
        near = match.iou > threshold  # (D, G)
        scores = np.where(near, match.confidence[:, None], -np.inf)[:, match.counts]
        best = scores.max(axis=0, initial=-np.inf)
        is_found = best > -np.inf
        missed += int((~is_found).sum())
        right.append(best[is_found])
        for column in np.flatnonzero(is_found):
            rivals = np.sort(scores[:, column][scores[:, column] > -np.inf])
            wrong.append(rivals[:-1])
        lost = ~near.any(axis=1) & (match.ignored <= threshold)
        wrong.append(match.confidence[lost])
    hits, errors = np.concatenate(right), np.concatenate(wrong)
    if not len(hits) + missed:
        return np.nan
    if not len(hits) + len(errors):
        return 0.0
    return _area(hits, errors, missed)


def _area(hits: np.ndarray, errors: np.ndarray, missed: int) -> float:
    """Area under the curve of precision over recall, by steps between neighbouring recalls.

    Args:
        hits, errors: confidences of right and of wrong masks.
        missed: objects that no mask found.
    """
    thresholds = np.unique(np.concatenate([hits, errors]))
    right = len(hits) - np.searchsorted(np.sort(hits), thresholds)
    wrong = len(errors) - np.searchsorted(np.sort(errors), thresholds)
    precision = np.append(right / (right + wrong), 1.0)
    recall = np.append(right / (len(hits) + missed), 0.0)
    around = np.concatenate([recall[:1], recall, [0.0]])
    return float(precision @ (around[:-2] - around[2:]) / 2)
