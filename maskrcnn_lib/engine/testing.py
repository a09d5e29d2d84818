"""Runs a detector over a whole data set, on all ranks, and collects what it found."""

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maskrcnn_lib.config.dialects import Dialect
from maskrcnn_lib.data.datasets.image_files import check_images
from maskrcnn_lib.data.image_io import load_decoder
from maskrcnn_lib.engine.detector import Detector
from maskrcnn_lib.evaluation.ground_truth import image_annotations, image_id
from maskrcnn_lib.evaluation.proposal_recall import Coverage, cover_objects
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.utils.comm import gather, get_rank, get_world_size
from maskrcnn_lib.utils.progress_bar import progress_bar

logger = logging.getLogger(__name__)

_READ_AHEAD = 2  # batches that are read while the model works on one
# Per kind of result the field that a model gives and the keys of the COCO result that come of it.
_KINDS = {
    "bbox": ("scores", ("bbox",)),
    "segm": ("mask", ("segmentation",)),
    "keypoints": ("keypoints", ("keypoints", "keypoint_scores")),
}


@dataclass
class DatasetResults:
    """What a model found on a data set.

    Attributes:
        by_kind: COCO results per kind (``bbox``, ``segm``, ``keypoints``) that the model gives,
            also where it found nothing.
        coverages: of a model that only proposes, per image how its proposals cover the objects.
        images: how many there were.
        seconds: wall time spent on waiting for images (``reading``), in the ``model`` (with
            resizing) and on ``results`` (masks to run lengths), summed over the ranks.
    """

    by_kind: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    coverages: list[Coverage] = field(default_factory=list)
    images: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class ImageResults:
    """What a model found on one image, in a form that ranks can exchange.

    Attributes:
        kinds: that the model gives.
        found: one COCO result per detection, of all kinds together.
        coverage: see :class:`DatasetResults`; None for a model that gives detections.
    """

    kinds: list[str]
    found: list[dict[str, Any]]
    coverage: Coverage | None


def image_results(
    dataset: Any, index: int, output: BoxList, category_ids: Sequence[int], dialect: Dialect
) -> ImageResults:
    """Turns a model's output for an image into results.

    Args:
        dataset: the image is the one at position ``index`` of it.
        output: in pixels of the original image; with field ``objectness`` and without ``scores``
            it holds proposals.
        category_ids: per label, see :func:`maskrcnn_lib.evaluation.categories.match_categories`.
        dialect: says how masks are pasted.
    """
    if output.has_field("objectness") and not output.has_field("scores"):
        best_first = output.get_field("objectness").sort(descending=True, stable=True).indices
        boxes = output.convert("xywh").bbox[best_first].tolist()
        return ImageResults([], [], cover_objects(boxes, image_annotations(dataset, index)))
    found = output.to_coco(
        image_id=image_id(dataset, index), category_ids=category_ids, paste=dialect.paste_rule
    )
    kinds = [kind for kind, (name, _) in _KINDS.items() if output.has_field(name)]
    return ImageResults(kinds, found, None)


def gather_results(
    results: Mapping[int, ImageResults], seconds: Mapping[str, float], expected: int
) -> DatasetResults | None:
    """All ranks' results in the order of the images, on the first rank; None on all others.

    Args:
        results: this rank's, by position in the data set. An image that several ranks have is
            taken once.
        seconds: this rank's.
        expected: images of the data set; fewer are warned about.
    """
    plain = [[i, r.kinds, r.found, r.coverage] for i, r in results.items()]
    shares = gather([plain, dict(seconds)])
    if shares is None:
        return None
    by_index = {i: ImageResults(*rest) for items, _ in shares for i, *rest in items}
    if len(by_index) != expected:
        logger.warning("the scores are of %d of the %d images only", len(by_index), expected)
    in_order = [by_index[index] for index in sorted(by_index)]
    merged = DatasetResults(images=len(by_index))
    for kind in _KINDS:
        if any(kind in image.kinds for image in in_order):
            merged.by_kind[kind] = [_only(kind, r) for image in in_order for r in image.found]
    merged.coverages = [image.coverage for image in in_order if image.coverage is not None]
    for part in seconds:
        merged.seconds[part] = sum(share[part] for _, share in shares)
    return merged


def _only(kind: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """A result without what belongs to other kinds."""
    others = {key for other, (_, keys) in _KINDS.items() if other != kind for key in keys}
    kept = {key: value for key, value in result.items() if key not in others}
    mask_score = kept.pop("mask_score", kept["score"])
    return kept | {"score": mask_score} if kind == "segm" else kept


class InterruptedRun(KeyboardInterrupt):
    """Ctrl-C in a run of one process, after some of its images.

    Attributes:
        results: of these images.
        images: their positions in the data set.
    """

    def __init__(self, results: DatasetResults, images: range) -> None:
        super().__init__()
        self.results = results
        self.images = images


def run_on_dataset(
    detector: Detector,
    dataset: Any,
    category_ids: Sequence[int],
    *,
    batch_size: int = 1,
    progress: bool = True,
    images: range | None = None,
) -> DatasetResults | None:
    """Detects objects on every image of a data set, or of a part of it.

    Rank r of a distributed run takes the images r, r + world size, ...; rank 0 gets all results.
    They do not depend on the number of ranks where ``batch_size`` is 1.

    Args:
        dataset: any data set; its images are read by ``read_image(index)`` where it has that, and
            its ``proposals(index)`` go to the detector where it has any.
        category_ids: the data set's category id per label of the model, -1 for none; not looked
            at for a model that only proposes.
        batch_size: images per forward pass. Padding to a common size can change results slightly,
            so that published numbers are measured with 1.
        progress: show a progress bar.
        images: positions in the data set; by default all.

    Returns:
        The results in the order of the images; None on other ranks than the first.

    Raises:
        ValueError: there is no image, or one cannot be read; a score over fewer images would be a
            wrong one.
        FileNotFoundError: images are missing; nothing was done.
        InterruptedRun: (a KeyboardInterrupt) Ctrl-C; holds what was found until then.
    """
    results: dict[int, ImageResults] = {}
    seconds = {"reading": 0.0, "model": 0.0, "results": 0.0}
    positions = range(len(dataset)) if images is None else images
    check_images(dataset, str(getattr(dataset, "source", "for testing")), positions)
    mine = positions[get_rank() :: get_world_size()]
    load_decoder()  # so that its time does not count as that of reading
    try:
        with progress_bar(len(mine), "image", shown=progress and get_rank() == 0) as bar:
            for indices, outputs in _detect(detector, dataset, mine, batch_size, seconds):
                started = time.perf_counter()
                for index, output in zip(indices, outputs, strict=True):
                    results[index] = image_results(
                        dataset, index, output, category_ids, detector.dialect
                    )
                seconds["results"] += time.perf_counter() - started
                bar.update(len(indices))
    except KeyboardInterrupt:
        if get_world_size() > 1 or not results or detector.only_proposes:
            raise
        part = gather_results(results, seconds, len(results))
        raise InterruptedRun(part, positions[: len(results)]) from None
    return gather_results(results, seconds, len(positions))


def _detect(
    detector: Detector,
    dataset: Any,
    indices: Sequence[int],
    batch_size: int,
    seconds: dict[str, float],
) -> Iterator[tuple[Sequence[int], list[BoxList]]]:
    """Yields what the model finds, batch by batch; adds to ``seconds`` what that took."""
    has_proposals = hasattr(dataset, "proposals")
    started = time.perf_counter()
    for batch, pixels in _read(dataset, indices, batch_size):
        read = time.perf_counter()
        given = [dataset.proposals(i) for i in batch] if has_proposals else None
        outputs = detector(pixels, given) if given else detector(pixels)
        seconds["reading"] += read - started
        seconds["model"] += time.perf_counter() - read
        yield batch, outputs
        started = time.perf_counter()


def _read(
    dataset: Any, indices: Sequence[int], batch_size: int
) -> Iterator[tuple[Sequence[int], list[np.ndarray]]]:
    """Batches of images, of which the next ones are read in another thread."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting: deque[tuple[Sequence[int], Future[list[np.ndarray]]]] = deque()
        for batch in batches_of(indices, batch_size):
            waiting.append((batch, pool.submit(read_images, dataset, batch)))
            if len(waiting) > _READ_AHEAD:
                ready, images = waiting.popleft()
                yield ready, images.result()
        while waiting:
            ready, images = waiting.popleft()
            yield ready, images.result()


def batches_of(indices: Sequence[int], batch_size: int) -> list[Sequence[int]]:
    """The indices in their order, ``batch_size`` at a time; the last batch may have fewer.

    Raises:
        ValueError: ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"the batch size must be at least 1, but is {batch_size}")
    return [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]


def read_images(dataset: Any, indices: Sequence[int]) -> list[np.ndarray]:
    """The images of a data set at some positions, (H, W, 3) uint8 RGB each."""
    if hasattr(dataset, "read_image"):
        return [dataset.read_image(index) for index in indices]
    images = (dataset[index][0] for index in indices)
    return [
        np.array(image.convert("RGB")) if hasattr(image, "convert") else image for image in images
    ]
