"""Training batches: always full, of one group, shared out between the ranks."""

from collections.abc import Iterator, Sequence

from maskrcnn_lib.data.samplers.grouped_batch_sampler import group_batches
from maskrcnn_lib.data.samplers.sample_order import Sample, ShuffledSampler


class EpochBatchSampler:
    """The batches that one epoch completes.

    Samples that fill no batch of their group are carried over to the next epoch and come first
    there, so that every batch is full and every sample is used as often as its sampler says. The
    batches over all ranks depend on the sampler alone; rank r takes the items r, r + world_size,
    ... of each. Epochs must be visited in order; epoch 0 starts afresh.

    Args:
        sampler: order of the samples in each epoch.
        group_ids: group of each sample of the data set.
        batch_size: samples per batch over all ranks.
        rank, world_size: which share of each batch to give.

    Raises:
        ValueError: the batch cannot be shared out evenly.
    """

    def __init__(
        self,
        sampler: ShuffledSampler,
        group_ids: Sequence[int],
        batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(
                f"a batch of {batch_size} images cannot be shared evenly by {world_size} "
                "processes: make the images per batch a multiple of the processes"
            )
        self.sampler = sampler
        self.group_ids = group_ids
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self._carried: list[Sample] = []

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose batches come next."""
        if epoch == 0:
            self._carried = []
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[Sample]]:
        samples = [*self._carried, *self.sampler]
        groups = [self.group_ids[sample.index] for sample in samples]
        full, rest = group_batches(samples, groups, self.batch_size)
        self._carried = [sample for leftover in rest for sample in leftover]
        for batch in full:
            yield batch[self.rank :: self.world_size]

    def __len__(self) -> int:
        """Batches per epoch on average, rounded down, at least 1."""
        return max(len(self.sampler) // self.batch_size, 1)
