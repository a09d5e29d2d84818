"""Runs a detector over a whole data set, on all ranks, and collects COCO results."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maskrcnn_lib.engine.inference import Detector
from maskrcnn_lib.evaluation.coco_results import coco_results
from maskrcnn_lib.evaluation.ground_truth import image_id
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.utils.comm import gather, get_rank, get_world_size

_READ_AHEAD = 2  # batches that are read while the model works on one


@dataclass
class DatasetResults:
    """What a detector found on a data set.

    Attributes:
        bbox: COCO box results.
        segm: COCO mask results; empty for a detector without masks.
        has_masks: whether the detector gives masks, even if it found nothing.
        seconds: wall time spent on waiting for images (``reading``), in the ``model`` (with
            resizing) and on ``results`` (masks to run lengths), summed over the ranks.
    """

    bbox: list[dict[str, Any]] = field(default_factory=list)
    segm: list[dict[str, Any]] = field(default_factory=list)
    has_masks: bool = False
    seconds: dict[str, float] = field(
        default_factory=lambda: {"reading": 0.0, "model": 0.0, "results": 0.0}
    )

    def by_kind(self) -> dict[str, list[dict[str, Any]]]:
        """The results per kind, without kinds that the model does not give."""
        return {"bbox": self.bbox, **({"segm": self.segm} if self.has_masks else {})}


def run_on_dataset(
    detector: Detector,
    dataset: Any,
    category_ids: Sequence[int],
    *,
    batch_size: int = 1,
    progress: bool = True,
) -> DatasetResults | None:
    """Detects objects on every image of a data set.

    Rank r of a distributed run takes the images r, r + world size, ...; rank 0 gets all results.
    They do not depend on the number of ranks where ``batch_size`` is 1.

    Args:
        dataset: any data set; its images are read by ``read_image(index)`` where it has that.
        category_ids: the data set's category id per label of the model, -1 for none.
        batch_size: images per forward pass. Padding to a common size can change results slightly,
            so that published numbers are measured with 1.
        progress: show a progress bar.

    Returns:
        The results in the order of the images; None on other ranks than the first.

    Raises:
        ValueError: an image cannot be read; a score over fewer images would be a wrong one.
    """
    from tqdm import tqdm

    found: list[tuple[int, list[dict[str, Any]]]] = []
    seconds = DatasetResults().seconds
    has_masks = False
    mine = range(get_rank(), len(dataset), get_world_size())
    with tqdm(total=len(mine), unit="image", disable=not progress or get_rank() > 0) as bar:
        started = time.perf_counter()
        for indices, images in _read(dataset, mine, batch_size):
            read = time.perf_counter()
            outputs = detector(images)
            detected = time.perf_counter()
            for index, output in zip(indices, outputs, strict=True):
                has_masks |= output.has_field("mask")
                results = _results(detector, output, image_id(dataset, index), category_ids)
                found.append((index, results))
            seconds["reading"] += read - started
            seconds["model"] += detected - read
            started = time.perf_counter()
            seconds["results"] += started - detected
            bar.update(len(indices))
    shares = gather([found, has_masks, seconds])
    return None if shares is None else _merge(shares)


def _merge(shares: Sequence[tuple[Any, bool, dict[str, float]]]) -> DatasetResults:
    """All ranks' results in the order of the images."""
    merged = DatasetResults(has_masks=any(has_masks for _, has_masks, _ in shares))
    found = [item for items, _, _ in shares for item in items]
    for _, results in sorted(found, key=lambda item: item[0]):
        for result in results:
            box = {key: value for key, value in result.items() if key != "segmentation"}
            merged.bbox.append(box)
            if "segmentation" in result:
                merged.segm.append({k: value for k, value in result.items() if k != "bbox"})
    for part in merged.seconds:
        merged.seconds[part] = sum(seconds[part] for _, _, seconds in shares)
    return merged


def _results(
    detector: Detector, output: BoxList, number: int, category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    return coco_results(
        output,
        image_id=number,
        category_ids=category_ids,
        aligned=detector.pastes_at_pixel_centres,
        box_end_offset=detector.dialect.box_end_offset,
    )


def _read(
    dataset: Any, indices: Sequence[int], batch_size: int
) -> Iterator[tuple[Sequence[int], list[np.ndarray]]]:
    """Batches of images, of which the next ones are read in another thread."""
    batches = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting: deque[tuple[Sequence[int], Future[list[np.ndarray]]]] = deque()
        for batch in batches:
            waiting.append((batch, pool.submit(read_images, dataset, batch)))
            if len(waiting) > _READ_AHEAD:
                ready, images = waiting.popleft()
                yield ready, images.result()
        while waiting:
            ready, images = waiting.popleft()
            yield ready, images.result()


def read_images(dataset: Any, indices: Sequence[int]) -> list[np.ndarray]:
    """The images of a data set at some positions, (H, W, 3) uint8 RGB each."""
    if hasattr(dataset, "read_image"):
        return [dataset.read_image(index) for index in indices]
    images = (dataset[index][0] for index in indices)
    return [
        np.array(image.convert("RGB")) if hasattr(image, "convert") else image for image in images
    ]
