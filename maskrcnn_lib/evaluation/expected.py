"""Compares scores with those that a config expects (``TEST.EXPECTED_RESULTS``)."""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

DEFAULT_SIGMA_TOLERANCE = 4.0


class UnexpectedResultsError(ValueError):
    """Scores are not those that the config expects."""


class ExpectedScore(NamedTuple):
    """The range in which a score should lie, 0..1."""

    task: str
    metric: str
    low: float
    high: float


def read_expected_results(
    entries: Sequence[Any], sigma_tolerance: float = DEFAULT_SIGMA_TOLERANCE
) -> list[ExpectedScore]:
    """Reads the entries of ``TEST.EXPECTED_RESULTS``.

    Args:
        entries: per score either maskrcnn-benchmark's ``[task, metric, [mean, std]]``, 0..1, or
            detectron2's ``[task, metric, value, tolerance]``, in percent.
        sigma_tolerance: standard deviations by which a score may differ from the mean.

    Raises:
        ValueError: an entry of another form.
    """
    return [_read(entry, sigma_tolerance) for entry in entries]


def check_expected_results(
    numbers: Mapping[str, float], expected: Sequence[ExpectedScore], datasets: Collection[str]
) -> list[str]:
    """Logs which scores are as expected, and as errors those that are not.

    Args:
        numbers: ``{"val/bbox/AP": 0.37, ...}``, see
            :func:`maskrcnn_lib.evaluation.scores.flat_scores`.
        expected: see :func:`read_expected_results`.
        datasets: names of the data sets, each of which is to meet all of them.

    Returns:
        One line per score that is missing or outside; empty when all are met.
    """
    failures = []
    for wanted in expected:
        for name in datasets:
            key = f"{name}/{wanted.task}/{wanted.metric}"
            value = numbers.get(key)
            shown = "was not measured" if value is None else f"is {value:.4f}"
            text = f"{key} {shown}; {wanted.low:.4f} to {wanted.high:.4f} expected"
            if value is None or not wanted.low <= value <= wanted.high:
                logger.error("FAIL: %s", text)
                failures.append(text)
            else:
                logger.info("PASS: %s", text)
    return failures


def _read(entry: Any, sigma_tolerance: float) -> ExpectedScore:
    try:
        if len(entry) == 4:
            task, metric, value, tolerance = entry
            middle, reach = float(value) / 100, float(tolerance) / 100
        else:
            task, metric, (mean, deviation) = entry
            middle, reach = float(mean), sigma_tolerance * float(deviation)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "TEST.EXPECTED_RESULTS needs entries [task, metric, [mean, std]] with values of 0..1, "
            f"or [task, metric, value, tolerance] in percent; got {entry!r}"
        ) from error
    return ExpectedScore(str(task), str(metric), middle - reach, middle + reach)
