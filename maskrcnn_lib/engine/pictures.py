"""The pictures that a training leaves: what it saw, what it learned, what it finds now."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from maskrcnn_lib.config.pixels import pixel_statistics
from maskrcnn_lib.data.build import make_data_loader
from maskrcnn_lib.data.statistics import read_target
from maskrcnn_lib.engine.detector import Detector
from maskrcnn_lib.engine.events import read_records
from maskrcnn_lib.engine.postprocess import keep_confident
from maskrcnn_lib.engine.testing import read_images
from maskrcnn_lib.visualization.curves import draw_curves, draw_label_statistics
from maskrcnn_lib.visualization.pages import draw_found, draw_target, image_page

logger = logging.getLogger(__name__)

_IMAGES = 8  # on a page
_SIDE = 480  # longer side of an image on a page, in pixels
_COUNTED = 2000  # images whose labels are counted; more take long and change little
_CONFIDENT = 0.5


def draw_data(cfg: Any, dataset: Any, class_names: Sequence[str], output: str | Path) -> None:
    """Writes ``labels.jpg``, and ``train_batch0.jpg``: the first images as the model sees them."""
    count = min(_IMAGES, cfg.SOLVER.IMS_PER_BATCH)
    samples = training_samples(cfg, dataset, class_names, count, size=_SIDE)
    _save(image_page([drawn for _, drawn in samples]), Path(output) / "train_batch0.jpg")
    counts, boxes = _count_labels(dataset, class_names)
    try:
        draw_label_statistics(counts, boxes, Path(output) / "labels.jpg")
    except ImportError:
        logger.warning("labels.jpg is not drawn: matplotlib is missing (pip install matplotlib)")


def training_samples(
    cfg: Any, dataset: Any, class_names: Sequence[str], count: int, *, size: int = 0
) -> Iterator[tuple[int, np.ndarray]]:
    """The first images of a training with their objects, transformed as the model sees them.

    Args:
        class_names: by label, the background first.
        size: longer side of the pictures; 0: that at which the model sees them.

    Yields:
        The position of an image in the data set, and the (H, W, 3) uint8 RGB picture.
    """
    one = cfg.clone()
    one.defrost()
    one.DATALOADER.NUM_WORKERS = 0
    batches = -(-count // cfg.SOLVER.IMS_PER_BATCH)
    place = 0
    for batch in make_data_loader(one, dataset=dataset, num_iterations=batches):
        for pixels, (height, width), target, index in zip(
            batch.images.tensors,
            batch.images.image_sizes,
            batch.targets,
            batch.indices,
            strict=True,
        ):
            if place == count:
                return
            place += 1
            image = displayable(pixels[:, :height, :width], cfg)
            yield index, draw_target(image, target, class_names, size=size)


def draw_outcome(detector: Detector, dataset: Any, output: str | Path) -> None:
    """Writes ``results.png``, and ``val_batch0_pred.jpg``: what is found on the first images.

    Args:
        dataset: of the evaluation; None leaves out the second picture.
    """
    output = Path(output)
    try:
        draw_curves(read_records(output / "metrics.jsonl"), output / "results.png")
    except ImportError:
        logger.warning("results.png is not drawn: matplotlib is missing (pip install matplotlib)")
    if dataset is None:
        return
    detector.model.eval()
    drawn = []
    for index in range(min(_IMAGES, len(dataset))):
        (image,) = read_images(dataset, [index])
        (found,) = detector([image])
        confident = keep_confident(found, _CONFIDENT)
        names, paste = detector.class_names, detector.paste_rule
        drawn.append(draw_found(image, confident, names, paste=paste, size=_SIDE))
    _save(image_page(drawn), output / "val_batch0_pred.jpg")


def displayable(pixels: Tensor, cfg: Any) -> np.ndarray:
    """Undoes the normalisation of a (3, H, W) image; gives (H, W, 3) uint8 RGB."""
    mean, std = (pixels.new_tensor(v)[:, None, None] for v in pixel_statistics(cfg))
    image = (pixels * std + mean).permute(1, 2, 0)
    image = image.flip(2) if cfg.INPUT.TO_BGR255 else image * 255
    return image.round().clamp(0, 255).byte().contiguous().numpy()


def _count_labels(dataset: Any, class_names: Sequence[str]) -> tuple[Counter[str], np.ndarray]:
    """Objects per class, and (N, 2) relative sizes of their boxes, of evenly chosen images."""
    counts = Counter({name: 0 for name in class_names[1:]})
    sizes = [np.zeros((0, 2))]
    for index in range(0, len(dataset), max(1, len(dataset) // _COUNTED)):
        target = read_target(dataset, index)
        counts.update(class_names[label] for label in target.get_field("labels").tolist())
        sides = target.convert("xywh").bbox[:, 2:].numpy()
        sizes.append(sides / np.array(target.size))
    return counts, np.concatenate(sizes)


def _save(image: np.ndarray, path: Path) -> None:
    from PIL import Image

    Image.fromarray(image).save(path, quality=92)
