"""Batches whose samples are of one group, for example all landscape or all portrait."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from torch import Tensor

T = TypeVar("T")


def group_batches(
    items: Sequence[T], groups: Sequence[int], batch_size: int
) -> tuple[list[list[T]], list[list[T]]]:
    """Cuts items into batches of one group each, in the order of the items.

    Args:
        items: what goes into the batches.
        groups: group of each item.
        batch_size: items per batch.

    Returns:
        The full batches in the order of their first items, and what is left of each group, in the
        order of its first item.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for position, group in enumerate(groups):
        members[group].append(position)
    chunks = [
        positions[start : start + batch_size]
        for positions in members.values()
        for start in range(0, len(positions), batch_size)
    ]
    chunks.sort(key=lambda positions: positions[0])
    full = [[items[p] for p in chunk] for chunk in chunks if len(chunk) == batch_size]
    rest = [[items[p] for p in chunk] for chunk in chunks if len(chunk) < batch_size]
    return full, rest


class GroupedBatchSampler:
    """maskrcnn-benchmark's: batches of one group that keep the sampler's order.

    Each batch stands where its first sample stands in the sampler.

    Args:
        sampler: gives indices; it is asked anew for each pass.
        group_ids: group of each index that the sampler may give.
        batch_size: samples per batch.
        drop_uneven: leave out batches with fewer samples.

    Raises:
        ValueError: ``batch_size`` is not positive.
    """

    def __init__(
        self,
        sampler: Iterable[int],
        group_ids: Sequence[int] | Tensor,
        batch_size: int,
        drop_uneven: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.sampler = sampler
        self.group_ids = [int(group) for group in group_ids]
        self.batch_size = batch_size
        self.drop_uneven = drop_uneven

    def _batches(self) -> list[list[int]]:
        indices = [int(index) for index in self.sampler]
        groups = [self.group_ids[index] for index in indices]
        positions, rest = group_batches(range(len(indices)), groups, self.batch_size)
        if not self.drop_uneven:
            positions = sorted(positions + rest)
        return [[indices[position] for position in batch] for batch in positions]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches())

    def __len__(self) -> int:
        return len(self._batches())
