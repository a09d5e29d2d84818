"""A fixed number of batches, over as many epochs as it takes."""

from collections.abc import Iterator
from typing import Any, Protocol


class BatchSampler(Protocol):
    """Gives the batches of one epoch, each time it is iterated over."""

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...


class IterationBasedBatchSampler:
    """maskrcnn-benchmark's: goes through a batch sampler again and again.

    Before each pass, ``set_epoch(epoch)`` of the batch sampler (or of its ``sampler``) is called
    where there is one. A run that starts at ``start_iter`` gets the batches that an uninterrupted
    one gets from there on: all epochs are walked from the first one, which costs no image.

    Args:
        batch_sampler: batches of one epoch.
        num_iterations: number of the last batch, counted from the start of the training.
        start_iter: batches that have been used already.

    Raises:
        ValueError: the batch sampler has no batch.
    """

    def __init__(
        self, batch_sampler: BatchSampler, num_iterations: int, start_iter: int = 0
    ) -> None:
        if len(batch_sampler) == 0:
            raise ValueError("the batch sampler gives no batch: is the data set empty?")
        self.batch_sampler = batch_sampler
        self.num_iterations = num_iterations
        self.start_iter = start_iter

    def __len__(self) -> int:
        return self.num_iterations

    def __iter__(self) -> Iterator[Any]:
        iteration, epoch = 0, 0
        while iteration < self.num_iterations:
            self._set_epoch(epoch)
            for batch in self.batch_sampler:
                iteration += 1
                if iteration > self.num_iterations:
                    return
                if iteration > self.start_iter:
                    yield batch
            epoch += 1

    def _set_epoch(self, epoch: int) -> None:
        inner = getattr(self.batch_sampler, "sampler", None)
        for sampler in (self.batch_sampler, inner):
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
                return
