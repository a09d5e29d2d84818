"""How fast a model is on this machine, stage by stage, and how much memory it takes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maskrcnn_lib.engine.detector import Detector
from maskrcnn_lib.engine.progress import used_memory

_PERCENTILES = (50, 10, 90)


@dataclass(frozen=True)
class Speed:
    """Times of repeated calls with one batch.

    Attributes:
        images: in a batch.
        found: detections in all images of the batch.
        model: (rounds,) seconds per batch from uint8 pixels to boxes: resizing, the network, and
            bringing boxes into the image; a GPU has finished.
        results: (rounds,) seconds per batch for COCO results, which paste masks.
        memory: most memory in use in megabytes, of the GPU, else of this process.
    """

    images: int
    found: int
    model: np.ndarray
    results: np.ndarray
    memory: float


def measure_speed(
    detector: Detector, images: Sequence[np.ndarray], *, rounds: int = 20, warm_up: int = 3
) -> Speed:
    """Runs a detector on the same batch again and again.

    Args:
        images: (H, W, 3) uint8 RGB, together one batch.
        rounds: batches that are timed.
        warm_up: batches before, in which memory is allocated and a GPU records its graphs.

    Raises:
        ValueError: nothing is to be timed, or there is no image.
    """
    if rounds < 1 or warm_up < 0 or not images:
        raise ValueError(f"{rounds} rounds of {len(images)} images cannot be timed")
    times = np.zeros((warm_up + rounds, 2))
    category_ids = range(-1, len(detector.class_names))
    for place in range(warm_up + rounds):
        started = time.perf_counter()
        outputs = detector(images)
        detected = time.perf_counter()
        found = [
            output.to_coco(image_id=0, category_ids=category_ids, paste=detector.paste_rule)
            for output in outputs
        ]
        times[place] = detected - started, time.perf_counter() - detected
    model, results = times[warm_up:].T
    return Speed(len(images), sum(map(len, found)), model, results, used_memory(detector.device))


def speed_table(speed: Speed) -> list[list[str]]:
    """Rows of text, the head first: milliseconds per image of each stage, and images per second."""
    rows = [["stage", "ms per image", "10 %", "90 %", "images/s"]]
    stages = {"model": speed.model, "results": speed.results}
    stages["all"] = speed.model + speed.results
    for name, seconds in stages.items():
        per_image = np.percentile(seconds, _PERCENTILES) / speed.images
        cells = [f"{1e3 * value:.2f}" for value in per_image]
        rows.append([name, *cells, f"{1 / max(per_image[0], 1e-9):.2f}"])
    return rows
