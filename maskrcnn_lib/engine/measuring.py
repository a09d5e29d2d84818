"""Scores a detector on a data set, on all ranks, and writes down what it found."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskrcnn_lib.engine.inference import Detector
from maskrcnn_lib.engine.testing import DatasetResults, run_on_dataset
from maskrcnn_lib.evaluation.categories import match_categories
from maskrcnn_lib.evaluation.coco_eval import COCOScores, evaluate_coco
from maskrcnn_lib.evaluation.ground_truth import coco_content
from maskrcnn_lib.evaluation.tables import overall_table, per_class_table

Scores = dict[str, COCOScores]


def measure_dataset(
    detector: Detector,
    name: str,
    dataset: Any,
    target: str | Path | None = None,
    *,
    backend: str = "auto",
    batch_size: int = 1,
    progress: bool = True,
) -> tuple[Scores, str] | None:
    """Detects objects on all images and compares them with the annotations, by COCO's rules.

    Args:
        name: of the data set, for the report.
        dataset: see :func:`maskrcnn_lib.engine.testing.run_on_dataset`.
        target: directory for ``bbox.json`` and ``segm.json`` (COCO results), ``coco_results.json``
            (the scores) and ``per_class.csv``; None to write nothing.
        backend: see :func:`maskrcnn_lib.evaluation.coco_eval.evaluate_coco`.
        batch_size, progress: see :func:`maskrcnn_lib.engine.testing.run_on_dataset`.

    Returns:
        Scores per kind of result (``bbox``, ``segm``), and a readable report; None on other ranks
        than the first.
    """
    categories = getattr(dataset, "categories", None) or dict(
        enumerate(detector.class_names[1:], 1)
    )
    category_ids = match_categories(detector.class_names, categories)
    results = run_on_dataset(
        detector, dataset, category_ids, batch_size=batch_size, progress=progress
    )
    if results is None:
        return None
    content = coco_content(dataset)
    scores = {
        kind: evaluate_coco(content, found, kind, backend=backend)
        for kind, found in results.by_kind().items()
    }
    report = _report(name, len(dataset), results, scores)
    if target is not None:
        _write(Path(target), results, scores)
        report += f"\nwritten to {target}"
    return scores, report


def flat_scores(name: str, scores: Mapping[str, COCOScores]) -> dict[str, float]:
    """Scores as ``{"val/segm/AP": 0.34, ...}``; what the data set cannot measure is left out."""
    return {
        f"{name}/{kind}/{metric}": value
        for kind, score in scores.items()
        for metric, value in score.metrics.items()
        if value >= 0
    }


def _write(target: Path, results: DatasetResults, scores: Scores) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for kind, found in results.by_kind().items():
        (target / f"{kind}.json").write_text(json.dumps(found))
    summary = {kind: {**score.metrics, "backend": score.backend} for kind, score in scores.items()}
    (target / "coco_results.json").write_text(json.dumps(summary, indent=2))
    with (target / "per_class.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["class", *(f"{kind}_AP" for kind in scores)])
        columns = [score.per_class for score in scores.values()]
        writer.writerows([name, *(column[name] for column in columns)] for name in columns[0])


def _report(name: str, images: int, results: DatasetResults, scores: Scores) -> str:
    seconds = results.seconds.items()
    speed = ", ".join(f"{part} {1e3 * value / max(1, images):.1f}" for part, value in seconds)
    backend = next(iter(scores.values())).backend
    return "\n".join(
        [
            per_class_table({kind: score.per_class for kind, score in scores.items()}),
            "",
            f"{name}: {images} images, {len(results.bbox)} detections, scored by {backend}",
            overall_table(list(scores.values())),
            f"milliseconds per image: {speed}",
        ]
    )
