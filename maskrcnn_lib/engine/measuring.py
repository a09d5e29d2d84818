"""Scores a model on a data set, on all ranks, and writes down what it found."""

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskrcnn_lib.engine.detector import Detector
from maskrcnn_lib.engine.parts import note_range, part_folder
from maskrcnn_lib.engine.testing import DatasetResults, run_on_dataset
from maskrcnn_lib.evaluation.categories import match_categories
from maskrcnn_lib.evaluation.proposal_recall import evaluate_box_proposals
from maskrcnn_lib.evaluation.rules import score_results
from maskrcnn_lib.evaluation.scores import Scores
from maskrcnn_lib.evaluation.tables import overall_table, per_class_table
from maskrcnn_lib.utils.writing import named_errors

logger = logging.getLogger(__name__)

DATASET_FILE = "dataset.json"
"""Beside results: the annotations and images that they were scored with."""


def measure_dataset(
    detector: Detector,
    name: str,
    dataset: Any,
    target: str | Path | None = None,
    *,
    backend: str = "auto",
    sigmas: Sequence[float] = (),
    batch_size: int = 1,
    progress: bool = True,
) -> tuple[dict[str, Scores], str] | None:
    """Detects objects on all images and compares them with the annotations.

    Pascal VOC's and Cityscapes' data sets are scored by their own rules, all others by COCO's; a
    model that only proposes by its recall.

    Args:
        name: of the data set, for the report.
        dataset: see :func:`maskrcnn_lib.engine.testing.run_on_dataset`.
        target: directory for the files of :func:`score_and_write`; None to write nothing.
        backend, sigmas: see :func:`maskrcnn_lib.evaluation.coco_eval.evaluate_coco`.
        batch_size, progress: see :func:`maskrcnn_lib.engine.testing.run_on_dataset`.

    Returns:
        Scores per kind of result (``bbox``, ``segm``, ``keypoints``, ``box_proposal``), and a
        readable report; None on other ranks than the first.
    """
    results = find_on_dataset(detector, name, dataset, batch_size=batch_size, progress=progress)
    if results is None:
        return None
    return score_and_write(name, dataset, results, target, backend=backend, sigmas=sigmas)


def find_on_dataset(
    detector: Detector, name: str, dataset: Any, **options: Any
) -> DatasetResults | None:
    """Detects objects on images of a data set, whose categories are matched by their names.

    Args:
        name: of the data set, for warnings.
        dataset, options: see :func:`maskrcnn_lib.engine.testing.run_on_dataset`.

    Returns:
        The results; None on other ranks than the first.
    """
    category_ids: Sequence[int] = ()
    if not detector.only_proposes:
        names = detector.class_names
        categories = getattr(dataset, "categories", None) or dict(enumerate(names[1:], 1))
        category_ids = match_categories(names, categories)
        unknown = [categories[i] for i in categories if i not in category_ids]
        if unknown:
            logger.warning("%s: the model knows no %s", name, ", ".join(unknown))
    return run_on_dataset(detector, dataset, category_ids, **options)


def write_part(dataset: Any, results: DatasetResults, images: range, target: Path) -> Path:
    """Writes results of a part of a data set, which are not scored.

    A score over some of the images is no part of the score over all of them; ``maskrcnn eval`` puts
    parts together and scores the whole.

    Args:
        images: positions in the data set that the results are of.
        target: directory of the data set.

    Returns:
        The directory of the part, with the files of results and those that say what they are of.
    """
    folder = part_folder(target, images)
    _write(folder, results, {})
    note_range(folder, images, len(dataset))
    _note_dataset(folder, dataset)
    return folder


def score_and_write(
    name: str,
    dataset: Any,
    results: DatasetResults,
    target: str | Path | None = None,
    *,
    backend: str = "auto",
    sigmas: Sequence[float] = (),
) -> tuple[dict[str, Scores], str]:
    """Scores results and writes them to files.

    Args:
        name: of the data set, for the report.
        target: directory for ``bbox.json``, ``segm.json`` and ``keypoints.json`` (COCO results),
            ``coco_results.json`` (the scores; also those by other rules than COCO's),
            ``per_class.csv`` and, of a COCO annotation file, ``dataset.json`` (where that and the
            images are); None to write nothing.
        backend, sigmas: see :func:`maskrcnn_lib.evaluation.coco_eval.evaluate_coco`.

    Returns:
        Scores per kind of result, and a readable report.
    """
    scores = score_results(dataset, results.by_kind, backend=backend, sigmas=sigmas)
    if results.coverages:
        scores["box_proposal"] = evaluate_box_proposals(results.coverages)
    report = _report(name, results, scores)
    if target is not None:
        _write(Path(target), results, scores)
        _note_dataset(Path(target), dataset)
        report += f"\nwritten to {target}"
    return scores, report


def _write(target: Path, results: DatasetResults, scores: Mapping[str, Scores]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for kind, found in results.by_kind.items():
        with named_errors(target / f"{kind}.json"):
            (target / f"{kind}.json").write_text(json.dumps(found))
    if not scores:
        return
    summary = {kind: {**score.metrics, "backend": score.backend} for kind, score in scores.items()}
    (target / "coco_results.json").write_text(json.dumps(summary, indent=2))
    columns = {kind: score.per_class for kind, score in scores.items() if score.per_class}
    if columns:
        with (target / "per_class.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["class", *(f"{kind}_AP" for kind in columns)])
            names = next(iter(columns.values()))
            writer.writerows([n, *(column[n] for column in columns.values())] for n in names)


def _note_dataset(target: Path, dataset: Any) -> None:
    source, images = getattr(dataset, "source", ""), getattr(dataset, "root", None)
    if images is not None and Path(source).is_file():
        places = {"annotations": str(Path(source).resolve()), "images": str(images.resolve())}
        (target / DATASET_FILE).write_text(json.dumps(places, indent=2))


def _report(name: str, results: DatasetResults, scores: Mapping[str, Scores]) -> str:
    seconds = results.seconds.items()
    speed = ", ".join(
        f"{part} {1e3 * value / max(1, results.images):.1f}" for part, value in seconds
    )
    columns = {kind: score.per_class for kind, score in scores.items() if score.per_class}
    backends = ", ".join(dict.fromkeys(score.backend for score in scores.values()))
    found = max(map(len, results.by_kind.values()), default=0)
    return "\n".join(
        [
            *([per_class_table(columns), ""] if columns else []),
            f"{name}: {results.images} images, {found} detections, scored by {backends}",
            overall_table(list(scores.values())),
            *([f"milliseconds per image: {speed}"] if speed else []),
        ]
    )
