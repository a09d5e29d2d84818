"""Runs a detector over a whole data set and collects COCO results."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from maskrcnn_lib.data.datasets import COCODataset
from maskrcnn_lib.engine.inference import Detector
from maskrcnn_lib.evaluation.coco_results import coco_results


@dataclass
class DatasetResults:
    """What a detector found on a data set.

    Attributes:
        bbox: COCO box results.
        segm: COCO mask results; empty for a detector without masks.
        seconds: wall time spent on ``reading`` images, in the ``model`` (with resizing) and on
            ``results`` (masks to run lengths).
    """

    bbox: list[dict[str, Any]] = field(default_factory=list)
    segm: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(
        default_factory=lambda: {"reading": 0.0, "model": 0.0, "results": 0.0}
    )

    def by_kind(self) -> dict[str, list[dict[str, Any]]]:
        """The results per kind, without kinds that the model does not give."""
        return {"bbox": self.bbox, **({"segm": self.segm} if self.segm else {})}


def run_on_dataset(
    detector: Detector,
    dataset: COCODataset,
    category_ids: Sequence[int],
    *,
    batch_size: int = 1,
    progress: bool = True,
) -> DatasetResults:
    """Detects objects on every image of a data set.

    Args:
        category_ids: the data set's category id per label of the model, -1 for none.
        batch_size: images per forward pass. Padding to a common size can change results slightly,
            so that published numbers are measured with 1.
        progress: show a progress bar.

    Raises:
        ValueError: an image cannot be read; a score over fewer images would be a wrong one.
    """
    from tqdm import tqdm

    results = DatasetResults()
    with tqdm(total=len(dataset), unit="image", disable=not progress) as bar:
        for indices in _batches(len(dataset), batch_size):
            started = time.perf_counter()
            images = [dataset.read_image(index) for index in indices]
            read = time.perf_counter()
            outputs = detector(images)
            detected = time.perf_counter()
            for index, output in zip(indices, outputs, strict=True):
                _collect(results, detector, output, dataset.ids[index], category_ids)
            results.seconds["reading"] += read - started
            results.seconds["model"] += detected - read
            results.seconds["results"] += time.perf_counter() - detected
            bar.update(len(indices))
    return results


def _collect(
    results: DatasetResults,
    detector: Detector,
    output: Any,
    image_id: int,
    category_ids: Sequence[int],
) -> None:
    for result in coco_results(
        output,
        image_id=image_id,
        category_ids=category_ids,
        aligned=detector.pastes_at_pixel_centres,
        box_end_offset=detector.dialect.box_end_offset,
    ):
        box = result.pop("bbox")
        if "segmentation" in result:
            results.segm.append(dict(result))
        result.pop("segmentation", None)
        results.bbox.append({**result, "bbox": box})


def _batches(count: int, size: int) -> Iterator[range]:
    for start in range(0, count, size):
        yield range(start, min(start + size, count))
