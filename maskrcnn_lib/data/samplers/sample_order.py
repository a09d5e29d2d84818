"""The order of the samples in an epoch, and the seed that each of them travels with."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from maskrcnn_lib.utils.random import generator_from, hash_integers, sample_seed

# Tell the draws for a whole epoch from those for a sample and from each other.
_ORDER_STREAM, _REPEAT_STREAM = -1, -2


class Sample(NamedTuple):
    """A place in the data set, and the seed of all that is random about this use of it."""

    index: int
    seed: int


class ShuffledSampler:
    """All samples once per epoch, in an order that depends on (seed, epoch) alone.

    Args:
        length: number of samples of the data set.
        seed: of the run.

    Raises:
        ValueError: there are no samples.
    """

    def __init__(self, length: int, *, seed: int) -> None:
        if length < 1:
            raise ValueError("there is no sample to train on: the data set is empty")
        self.length = length
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order comes next."""
        self.epoch = epoch

    def _counts(self) -> np.ndarray:
        """(length,) int64: how often each sample comes in this epoch."""
        return np.ones(self.length, dtype=np.int64)

    def _generator(self, stream: int) -> np.random.Generator:
        return generator_from(hash_integers(self.seed, self.epoch, stream))

    def __iter__(self) -> Iterator[Sample]:
        counts = self._counts()
        order = np.repeat(np.arange(self.length), counts)
        self._generator(_ORDER_STREAM).shuffle(order)
        shown: Counter[int] = Counter()
        for index in order.tolist():
            yield Sample(index, sample_seed(self.seed, self.epoch, index, repeat=shown[index]))
            shown[index] += 1

    def __len__(self) -> int:
        return int(self._counts().sum())


class RepeatFactorSampler(ShuffledSampler):
    """Samples with rare classes come more than once per epoch (Gupta et al., LVIS, 2019).

    A factor of 2.3 means: twice in each epoch, and three times in 30 % of them.

    Args:
        factors: of each sample, at least 1; see :func:`repeat_factors`.
        seed: of the run.

    Raises:
        ValueError: there are no samples, or a factor is below 1.
    """

    def __init__(self, factors: Sequence[float], *, seed: int) -> None:
        super().__init__(len(factors), seed=seed)
        self.factors = np.asarray(factors, dtype=np.float64)
        if not (self.factors >= 1).all():
            raise ValueError(f"repeat factors must be at least 1, got {self.factors.min()}")

    def _counts(self) -> np.ndarray:
        whole = np.floor(self.factors)
        draws = self._generator(_REPEAT_STREAM).random(self.length)
        return (whole + (draws < self.factors - whole)).astype(np.int64)


def repeat_factors(labels: Sequence[Collection[int]], threshold: float) -> list[float]:
    """How often each image should be shown so that rare classes are not forgotten.

    A class that is in a share f of the images gets max(1, sqrt(threshold / f)); an image gets the
    largest factor of its classes (Gupta et al., LVIS, 2019).

    Args:
        labels: classes of the objects of each image.
        threshold: share of the images below which a class counts as rare.
    """
    images_with = Counter(label for image in labels for label in set(image))
    of_class = {
        label: max(1.0, math.sqrt(threshold * len(labels) / count))
        for label, count in images_with.items()
    }
    return [max((of_class[label] for label in image), default=1.0) for image in labels]
