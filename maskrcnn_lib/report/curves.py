"""The tables and curves of a report, as numbers that JSON can hold."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maskrcnn_lib.evaluation.average_precision import Curves, mean_of_measured
from maskrcnn_lib.evaluation.coco_eval import IouType, evaluate_coco
from maskrcnn_lib.evaluation.scores import IOU_THRESHOLDS
from maskrcnn_lib.visualization.curves import shortened

_AT_50, _AT_75 = IOU_THRESHOLDS.index(0.5), IOU_THRESHOLDS.index(0.75)
_SCALE = 1000  # precision is written in thousandths


def measure_kind(
    content: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    kind: IouType,
    *,
    sigmas: Sequence[float] = (),
) -> dict[str, Any]:
    """Scores of one kind of result by COCO's rules.

    Args:
        content: the data set: a dict with ``images``, ``annotations`` and ``categories``.
        results, kind, sigmas: see :func:`maskrcnn_lib.evaluation.coco_eval.evaluate_coco`.

    Returns:
        ``metrics`` by name, ``classes`` (see :func:`class_rows`), ``precision`` (see
        :func:`precision_over_recall`) and the ``backend`` that computed them.
    """
    scores = evaluate_coco(content, results, kind, sigmas=sigmas)
    return {
        "metrics": {name: _rounded(v) for name, v in scores.metrics.items()},
        "classes": class_rows(content, results, scores.curves),
        "precision": precision_over_recall(scores.curves),
        "backend": scores.backend,
    }


def class_rows(
    content: Mapping[str, Any], results: Sequence[Mapping[str, Any]], curves: Curves
) -> list[list[float | None]]:
    """A row per class, in the order of the ids: objects, detections, AP, AP50, AP75, AP of small,
    medium and large objects, and recall with all detections; None where there is nothing to measure
    on, and for keypoints at small objects, which COCO does not score."""
    objects = Counter(a["category_id"] for a in content["annotations"] if not a.get("iscrowd", 0))
    found = Counter(result["category_id"] for result in results)
    precision, recall = curves
    areas = precision.shape[3]
    sizes = [None] * (4 - areas) + list(range(1, areas))  # small, medium, large
    rows = []
    for k, number in enumerate(sorted(category["id"] for category in content["categories"])):
        of_class = precision[:, :, k, :, -1]  # (thresholds, recalls, areas)
        values = [of_class[..., 0], of_class[_AT_50, :, 0], of_class[_AT_75, :, 0]]
        values += [np.zeros(0) if a is None else of_class[..., a] for a in sizes]
        values.append(recall[:, k, 0, -1])
        scores = [_rounded(mean_of_measured(part)) for part in values]
        rows.append([objects[number], found[number], *scores])
    return rows


def precision_over_recall(curves: Curves) -> dict[str, Any]:
    """Precision in thousandths at the recalls 0, 0.01, ... 1.

    Returns:
        ``mean``: per IoU threshold the mean over the classes; ``at_50`` and ``at_75``: per class
        the curve, None where the class has no objects.
    """
    precision = curves.precision[:, :, :, 0, -1]  # (thresholds, recalls, classes)
    measured = precision[0, 0] > -1
    if measured.any():
        mean = _thousandths(precision[:, :, measured].mean(axis=2))
    else:
        mean = _thousandths(np.zeros(precision.shape[:2]))
    per_class = {
        name: [
            _thousandths(precision[t, :, k]) if has else None
            for k, has in enumerate(measured.tolist())
        ]
        for name, t in (("at_50", _AT_50), ("at_75", _AT_75))
    }
    return {"mean": mean, **per_class}


def training_curves(records: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """The numbers of a training over its iterations, in groups that share an axis.

    Args:
        records: of ``metrics.jsonl``: dicts of numbers with an ``iteration``.

    Returns:
        Per group ``title`` and ``series`` of ``name`` and ``points`` (iteration, value); of long
        series the means of neighbouring points. Groups without numbers are left out.
    """
    names = list(dict.fromkeys(name for record in records for name in record))
    groups = {
        "Losses": [name for name in names if name.startswith("loss")],
        "Average precision": [name for name in names if name.endswith("/AP")],
        "Learning rate": [name for name in names if name == "lr"],
        "Norm of the gradients": [name for name in names if name == "grad_norm"],
        "Seconds per iteration": [name for name in names if name in ("time", "data")],
    }
    return [
        {"title": title, "series": [{"name": n, "points": _series(records, n)} for n in members]}
        for title, members in groups.items()
        if members
    ]


def _series(records: Sequence[Mapping[str, float]], name: str) -> list[list[float]]:
    points = np.array([(r["iteration"], r[name]) for r in records if name in r], dtype=np.float64)
    points = shortened(points[np.isfinite(points).all(axis=1)])
    return [[round(i), float(f"{value:.4g}")] for i, value in points.tolist()]


def _rounded(value: float) -> float | None:
    return None if value < 0 else round(float(value), 6)


def _thousandths(values: np.ndarray) -> list[Any]:
    return np.rint(values * _SCALE).astype(int).tolist()
