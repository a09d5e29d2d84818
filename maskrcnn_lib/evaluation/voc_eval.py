"""Pascal VOC's average precision (Everingham et al., IJCV 2010; development kits 2007 and 2012).

Three rules differ from COCO's. A detection counts for the object that it overlaps most, and when a
better detection has taken that object it is wrong, even if it overlaps another one enough. Objects
marked as difficult neither count nor make detections wrong. The curve is read at 11 recalls (until
2009) or integrated exactly (from 2010 on).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from maskrcnn_lib.evaluation.coco_results import check_results
from maskrcnn_lib.evaluation.overlaps import overlaps
from maskrcnn_lib.evaluation.scores import IOU_THRESHOLDS, Scores, mean_of_known

_INTERVALS = 10  # between the 11 recalls of 2007


class _Matches(NamedTuple):
    """All detections of a class by descending score.

    Attributes:
        iou: (D,) float64: with the object that each overlaps most; -1 where its image has none.
        target: (D,) number of that object among all of the class.
        difficult: (D,) whether it is marked so.
        positives: objects of the class that count.
    """

    iou: np.ndarray
    target: np.ndarray
    difficult: np.ndarray
    positives: int


def evaluate_voc(
    annotations: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    kind: Literal["bbox", "segm"] = "bbox",
) -> Scores:
    """Scores detections by Pascal VOC's rules.

    Args:
        annotations: the data set in COCO's form, its annotations with ``difficult`` (0 or 1).
            Boxes are continuous, so that those of VOC's files, which count pixels from 1 and
            include the last one, have to be x - 1, y - 1 and the full width and height.
        results: COCO results with ``bbox`` or ``segmentation``.
        kind: what to compare.

    Returns:
        ``AP50``, VOC's own number, ``AP75``, and ``AP``, the mean over IoUs of 0.5 to 0.95, with
        the area under the curve (2010 and later); ``AP50_07``, ``AP75_07`` and ``AP_07`` with 11
        recalls (until 2009). Per class: AP50.

    Raises:
        ValueError: a result lacks a key or is of an image that the data set does not have.
    """
    sizes = {image["id"]: (image["height"], image["width"]) for image in annotations["images"]}
    check_results(results, kind, sizes)
    objects, found = _by_class(annotations["annotations"]), _by_class(results)
    curves = {"": average_precision, "_07": average_precision_07}
    names = {c["id"]: c["name"] for c in annotations["categories"]}
    table = {suffix: np.full((len(names), len(IOU_THRESHOLDS)), np.nan) for suffix in curves}
    for row, category in enumerate(sorted(names)):
        matches = _match(objects[category], found[category], kind, sizes)
        if not matches.positives:
            continue
        for column, threshold in enumerate(IOU_THRESHOLDS):
            hits = _judge(matches, threshold)
            for suffix, area in curves.items():
                table[suffix][row, column] = area(hits, matches.positives)
    metrics = {}
    for suffix, values in table.items():
        columns = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}
        metrics |= {f"{name}{suffix}": mean_of_known(values[:, c]) for name, c in columns.items()}
    per_class = {names[i]: mean_of_known(table[""][row, :1]) for row, i in enumerate(sorted(names))}
    return Scores(kind, metrics, per_class, "Pascal VOC's rules")


def average_precision(hits: np.ndarray, positives: int) -> float:
    """Area under the curve of the best precision at each recall or a higher one.

    Args:
        hits: (D,) bool, by descending score: right or wrong.
        positives: objects to find, at least one.
    """
    right = np.cumsum(hits)
    precision = _envelope(right / np.arange(1, len(hits) + 1))
    return float(precision[hits].sum() / positives)


def average_precision_07(hits: np.ndarray, positives: int) -> float:
    """Mean of the best precision at recalls of 0, 0.1, ..., 1; arguments as above."""
    right = np.cumsum(hits)
    precision = np.append(_envelope(right / np.arange(1, len(hits) + 1)), 0.0)
    # in whole numbers: 3 of 10 objects are a recall of 0.3, also where 3 * 0.1 is more than 0.3
    needed = np.arange(_INTERVALS + 1) * positives
    return float(precision[np.searchsorted(right * _INTERVALS, needed)].mean())


def _envelope(precision: np.ndarray) -> np.ndarray:
    return np.maximum.accumulate(precision[::-1])[::-1]


def _match(
    objects: Mapping[Any, list], found: Mapping[Any, list], kind: str, sizes: Mapping
) -> _Matches:
    """What each detection of a class overlaps most; arguments per image id."""
    columns = [np.zeros((4, 0))]
    count = 0
    for image_id in sizes:  # in a fixed order, so that ties of scores do not depend on the results
        truth, results = objects.get(image_id, []), found.get(image_id, [])
        iou = overlaps(results, truth, kind, sizes[image_id])
        best = iou.argmax(axis=1) if truth else np.zeros(len(results), np.int64)
        marks = np.array([*(bool(entry.get("difficult", 0)) for entry in truth), False])
        scores = [result["score"] for result in results]
        columns.append(np.stack([scores, iou.max(axis=1, initial=-1.0), best + count, marks[best]]))
        count += len(truth)
    scores, iou, target, difficult = np.concatenate(columns, axis=1)
    order = np.argsort(-scores, kind="stable")
    positives = sum(not entry.get("difficult", 0) for part in objects.values() for entry in part)
    return _Matches(iou[order], target[order], difficult[order] > 0, positives)


def _judge(matches: _Matches, threshold: float) -> np.ndarray:
    """Right or wrong, by descending score; what found a difficult object is left out."""
    near = matches.iou >= threshold
    candidates = np.flatnonzero(near & ~matches.difficult)
    _, first = np.unique(matches.target[candidates], return_index=True)
    hits = np.zeros(len(near), bool)
    hits[candidates[first]] = True
    return hits[~(near & matches.difficult)]


def _by_class(entries: Sequence[Mapping[str, Any]]) -> dict[int, dict[Any, list]]:
    """Category id -> image id -> entries."""
    grouped: dict[int, dict[Any, list]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        grouped[entry["category_id"]][entry["image_id"]].append(entry)
    return grouped
