"""The numbers that an evaluation gives, whatever its rules."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from maskrcnn_lib.evaluation.average_precision import Curves

IOU_THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
"""The overlaps that ``AP`` and ``AR`` are the means over."""


@dataclass(frozen=True)
class Scores:
    """Quality of one kind of result on one data set.

    Attributes:
        kind: ``"bbox"``, ``"segm"``, ``"keypoints"`` or ``"box_proposal"``.
        metrics: numbers by name (``"AP"``, ``"AP50"``, ``"AR@1000"``, ...), 0..1; -1 where the
            data set has nothing to measure on.
        per_class: the main number per category name, in the order of the category ids; -1 as
            above; empty where classes are not told apart.
        backend: package or rules that computed them.
        curves: that the numbers are averages of, by COCO's rules alone.
    """

    kind: str
    metrics: dict[str, float]
    per_class: dict[str, float]
    backend: str
    curves: Curves | None = field(default=None, repr=False, compare=False)


def flat_scores(name: str, scores: Mapping[str, Scores]) -> dict[str, float]:
    """Scores as ``{"val/segm/AP": 0.34, ...}``; what the data set cannot measure is left out.

    Args:
        name: of the data set.
        scores: per kind of result.
    """
    return {
        f"{name}/{kind}/{metric}": value
        for kind, score in scores.items()
        for metric, value in score.metrics.items()
        if value >= 0
    }


def mean_of_known(values: np.ndarray) -> float:
    """Mean without NaN, which stands where there is nothing to measure on; -1 without any."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else -1.0
