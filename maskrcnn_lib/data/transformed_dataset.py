"""A data set seen through a transform: what the worker processes of the loader run."""

import logging
from typing import Any, Literal

import numpy as np
import torch

from maskrcnn_lib.data.collate import TransformedSample
from maskrcnn_lib.data.samplers.sample_order import Sample
from maskrcnn_lib.data.statistics import untrainable
from maskrcnn_lib.data.transforms import CopyPaste, JointTransform
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.utils.random import generator_from

logger = logging.getLogger(__name__)

_MAX_REPLACEMENTS = 10  # bad images in a row after which the data set itself must be wrong
_COUNTERS = 512  # of bad images, one per worker process


class TransformedDataset:
    """Reads and transforms samples; all randomness comes from the sample's seed.

    Args:
        dataset: any object with ``__len__`` and ``dataset[i] -> (image, BoxList, ...)``, the image
            from Pillow or (H, W, 3) uint8 RGB.
        transform: of image and objects.
        copy_paste: pastes objects of other images in.
        on_bad_image: what to do with a sample that raises OSError or ValueError: ``"raise"``, or
            ``"skip"``: log and count it, and take another one, drawn from its seed, in its place.
    """

    def __init__(
        self,
        dataset: Any,
        transform: JointTransform,
        *,
        copy_paste: CopyPaste | None = None,
        on_bad_image: Literal["raise", "skip"] = "raise",
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.copy_paste = copy_paste
        self.on_bad_image = on_bad_image
        self._bad_images = torch.zeros(_COUNTERS, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def bad_images(self) -> int:
        """How many bad images were replaced until now, in all workers of this process."""
        return int(self._bad_images.sum())

    def __getitem__(self, sample: Sample | int) -> TransformedSample:
        """A sample of a sampler, or an index, whose seed is 0.

        Raises:
            OSError, ValueError: it cannot be read, or is not what a data set should give.
            RuntimeError: many images in a row cannot be read.
        """
        index, seed = sample if isinstance(sample, Sample) else (int(sample), 0)
        rng = generator_from(seed)
        index, image, target = self._read_good(index, rng)
        if self.copy_paste is not None and self.copy_paste.is_drawn(rng):
            _, *other = self._read_good(int(rng.integers(len(self))), rng)
            image, target = self.copy_paste(image, target, *other, rng)
        try:
            pixels, target = self.transform(image, target, rng)
        except ValueError as error:
            raise ValueError(f"sample {index}: {error}") from error
        return TransformedSample(pixels, target, index, seed)

    def _read_good(self, index: int, rng: np.random.Generator) -> tuple[int, np.ndarray, BoxList]:
        """The sample at ``index``, or another one in its place."""
        for _ in range(_MAX_REPLACEMENTS):
            try:
                return index, *self._read(index)
            except (OSError, ValueError) as error:
                if self.on_bad_image == "raise":
                    raise
                self._count(index, error)
                index = int(rng.integers(len(self)))
        raise RuntimeError(
            f"{_MAX_REPLACEMENTS} images in a row could not be read: the data set seems to be "
            "damaged or at another place; the warnings above name them"
        )

    def _read(self, index: int) -> tuple[np.ndarray, BoxList]:
        sample = self.dataset[index]
        if not isinstance(sample, tuple | list) or len(sample) < 2:
            raise TypeError(
                f"sample {index}: a data set gives (image, BoxList, index), got "
                f"{type(sample).__name__}"
            )
        image, target, *_ = sample
        if not isinstance(target, BoxList):
            raise TypeError(f"sample {index}: expected a BoxList, got {type(target).__name__}")
        if hasattr(image, "convert"):  # from Pillow
            image = np.array(image.convert("RGB"))
        _check(image, target, index)
        return image, target.convert("xyxy")

    def _count(self, index: int, error: Exception) -> None:
        worker = torch.utils.data.get_worker_info()
        self._bad_images[(worker.id if worker else 0) % _COUNTERS] += 1
        logger.warning("image %d is replaced by another one: %s", index, error)


def _check(image: Any, target: BoxList, index: int) -> None:
    """Raises unless a data set has given what the transforms and losses expect."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,):
        found = (
            f"{type(image).__name__} {getattr(image, 'shape', '')} {getattr(image, 'dtype', '')}"
        )
        raise TypeError(
            f"sample {index}: the image must be from Pillow or (H, W, 3) uint8 RGB, got {found}"
        )
    if target.size != (image.shape[1], image.shape[0]):
        raise ValueError(
            f"sample {index}: the image is {image.shape[1]} x {image.shape[0]} pixels, but its "
            f"BoxList belongs to one of {target.size[0]} x {target.size[1]}"
        )
    problem = next(untrainable(target), "")
    if problem:
        raise ValueError(f"sample {index}: {problem}")
