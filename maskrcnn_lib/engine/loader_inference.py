"""Scores a model on the images of a data loader, with maskrcnn-benchmark's function."""

import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.engine.measuring import score_and_write
from maskrcnn_lib.engine.postprocess import restore_original_size
from maskrcnn_lib.engine.testing import ImageResults, gather_results, image_results
from maskrcnn_lib.evaluation.expected import (
    DEFAULT_SIGMA_TOLERANCE,
    check_expected_results,
    read_expected_results,
)
from maskrcnn_lib.evaluation.scores import Scores, flat_scores

logger = logging.getLogger(__name__)


def inference(
    model: nn.Module,
    data_loader: Iterable[Any],
    dataset_name: str,
    iou_types: Sequence[str] = ("bbox",),
    box_only: bool = False,
    bbox_aug: bool = False,
    device: torch.device | str = "cuda",
    expected_results: Sequence[Any] = (),
    expected_results_sigma_tol: float = DEFAULT_SIGMA_TOLERANCE,
    output_folder: str | Path | None = None,
    *,
    dialect: str = "maskrcnn_benchmark",
) -> dict[str, Scores] | None:
    """Finds the objects in all images of a loader and compares them with the annotations.

    Each rank takes the batches that its own loader yields. ``maskrcnn test`` reads and scores
    images without a loader, see :func:`maskrcnn_lib.engine.measuring.measure_dataset`.

    Args:
        model: on ``device``; it is in evaluation mode afterwards, as it was in maskrcnn-benchmark.
        data_loader: of ``make_data_loader(cfg, is_train=False)``, or any that has ``dataset`` and
            yields batches (ImageList, targets, indices, ...). The model's labels 1..K have to be
            the data set's categories in their order.
        dataset_name: for the report.
        iou_types: kinds of results to score, of ``bbox``, ``segm`` and ``keypoints``.
        box_only: score the recall of proposals, of a model with ``MODEL.RPN_ONLY``.
        bbox_aug: test-time augmentation, which is not done here.
        device: where the images go.
        expected_results, expected_results_sigma_tol: see
            :func:`maskrcnn_lib.evaluation.expected.read_expected_results`; what is not as expected
            is logged as an error.
        output_folder: gets the files of :func:`maskrcnn_lib.engine.measuring.score_and_write`.
        dialect: ``MODEL.DIALECT`` of the model's config.

    Returns:
        Scores per kind of result (``bbox``, ``segm``, ``keypoints``, ``box_proposal``); None on
        other ranks than the first.

    Raises:
        ValueError: ``bbox_aug`` is set; the model gives none of ``iou_types``.
    """
    if bbox_aug:
        raise ValueError(
            "inference() gets resized images and cannot look at them in other sizes: leave out "
            "bbox_aug, and use `maskrcnn test` with TEST.BBOX_AUG.ENABLED True"
        )
    expected = read_expected_results(expected_results, expected_results_sigma_tol)
    dataset = data_loader.dataset
    dataset = getattr(dataset, "dataset", dataset)  # without its transforms
    started = time.perf_counter()
    found = _run(model, data_loader, dataset, torch.device(device), dialect)
    results = gather_results(found, {"all": time.perf_counter() - started}, len(dataset))
    if results is None:
        return None
    wanted = () if box_only else iou_types
    results.by_kind = {kind: results.by_kind[kind] for kind in wanted if kind in results.by_kind}
    if not results.by_kind and not results.coverages:
        raise ValueError(f"the model gives no {' or '.join(iou_types)} to be scored")
    scores, report = score_and_write(dataset_name, dataset, results, output_folder)
    logger.info("evaluation:\n%s", report)
    check_expected_results(flat_scores(dataset_name, scores), expected, [dataset_name])
    return scores


@torch.inference_mode()
def _run(
    model: nn.Module,
    loader: Iterable[Any],
    dataset: Any,
    device: torch.device,
    dialect_name: str,
) -> dict[int, ImageResults]:
    """Results of this rank's images by position in the data set."""
    dialect = get_dialect(dialect_name)
    categories = getattr(dataset, "categories", None)
    model.eval()
    found = {}
    for images, _, indices, *_ in loader:
        outputs = model(images.to(device))
        for index, output in zip(indices, outputs, strict=True):
            info = dataset.get_img_info(index)
            size = (info["width"], info["height"])
            restored = restore_original_size(output.to("cpu"), size, dialect)
            labels = restored.get_field("labels") if restored.has_field("labels") else None
            ids = _category_ids(categories, labels)
            found[index] = image_results(dataset, index, restored, ids, dialect)
    return found


def _category_ids(categories: Any, labels: torch.Tensor | None) -> list[int]:
    """Per label the category id; of data sets without names the label itself."""
    if categories:
        return [-1, *categories]
    most = int(labels.max()) if labels is not None and len(labels) else 0
    return [-1, *range(1, most + 1)]
