"""Batch samplers give maskrcnn-benchmark's batches; training batches do not depend on the ranks."""

from collections import Counter
from itertools import chain, islice

import pytest
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler

from maskrcnn_lib.data.samplers import (
    EpochBatchSampler,
    GroupedBatchSampler,
    IterationBasedBatchSampler,
    ShuffledSampler,
)

GROUPS = [0, 0, 1, 0, 1, 1, 0, 1, 1, 0]
SINGLES = [[i] for i in range(10)]


# Expected batches: maskrcnn-benchmark's tests/test_data_samplers.py.
@pytest.mark.parametrize(
    ("order", "drop_uneven", "batch_size", "expected"),
    [
        (range(10), False, 1, SINGLES),
        (range(10), False, 3, [[0, 1, 3], [2, 4, 5], [6, 9], [7, 8]]),
        (range(10), False, 4, [[0, 1, 3, 6], [2, 4, 5, 7], [8], [9]]),
        (range(10), True, 1, SINGLES),
        (range(10), True, 3, [[0, 1, 3], [2, 4, 5]]),
        (range(10), True, 4, [[0, 1, 3, 6], [2, 4, 5, 7]]),
        ([0, 3, 5, 6, 7, 8], False, 1, [[0], [3], [5], [6], [7], [8]]),
        ([0, 3, 5, 6, 7, 8], False, 3, [[0, 3, 6], [5, 7, 8]]),
        ([0, 3, 5, 6, 7, 8], False, 4, [[0, 3, 6], [5, 7, 8]]),
        ([5, 0, 6, 1, 3, 8], False, 1, [[5], [0], [6], [1], [3], [8]]),
        ([5, 0, 6, 1, 3, 8], False, 3, [[5, 8], [0, 6, 1], [3]]),
        ([5, 0, 6, 1, 3, 8], False, 4, [[5, 8], [0, 6, 1, 3]]),
        ([5, 0, 6, 1, 3, 8], True, 3, [[0, 6, 1]]),
        ([5, 0, 6, 1, 3, 8], True, 4, [[0, 6, 1, 3]]),
    ],
)
def test_grouped_batches_are_those_of_maskrcnn_benchmark(order, drop_uneven, batch_size, expected):
    sampler = GroupedBatchSampler(order, GROUPS, batch_size, drop_uneven)
    assert list(sampler) == expected
    assert len(sampler) == len(expected)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 6])
def test_sorted_groups_keep_the_order(batch_size):
    sampler = GroupedBatchSampler(range(40), [i // 10 for i in range(40)], batch_size)
    assert list(chain.from_iterable(sampler)) == list(range(40))


def test_length_holds_for_every_pass_of_a_random_sampler():
    sampler = GroupedBatchSampler(RandomSampler(range(10)), GROUPS, 3, drop_uneven=True)
    assert [len(list(sampler)) for _ in range(10)] == [len(sampler)] * 10


def test_index_that_comes_twice_stays_twice():
    assert list(GroupedBatchSampler([4, 4, 2, 4], GROUPS, 2)) == [[4, 4], [2, 4]]


@pytest.mark.parametrize("batch_size", [2, 3, 4])
@pytest.mark.parametrize("num_iterations", [4, 10, 20])
@pytest.mark.parametrize("drop_last", [False, True])
def test_iterations_cycle_through_the_batches(batch_size, num_iterations, drop_last):
    batches = BatchSampler(SequentialSampler(range(10)), batch_size, drop_last)
    sampler = IterationBasedBatchSampler(batches, num_iterations)
    result = list(sampler)
    assert len(sampler) == len(result) == num_iterations
    assert result == [list(batches)[i % len(batches)] for i in range(num_iterations)]


def test_batch_sampler_without_batches_is_refused():
    with pytest.raises(ValueError, match="no batch"):
        IterationBasedBatchSampler(GroupedBatchSampler([0], GROUPS, 2, drop_uneven=True), 5)


def training_batches(count, *, start=0, length=23, batch_size=4, rank=0, world_size=1, seed=3):
    sampler = EpochBatchSampler(
        ShuffledSampler(length, seed=seed),
        [index % 3 == 0 for index in range(length)],
        batch_size,
        rank=rank,
        world_size=world_size,
    )
    return list(IterationBasedBatchSampler(sampler, count, start))


def test_training_batches_are_full_and_of_one_group():
    batches = training_batches(50)
    assert {len(batch) for batch in batches} == {4}
    assert all(len({sample.index % 3 == 0 for sample in batch}) == 1 for batch in batches)


def test_every_sample_is_used_equally_often():
    used = Counter(sample.index for batch in training_batches(230) for sample in batch)
    # 920 samples of 23: 40 each; what is carried over at the end shifts a count by one
    assert set(used) == set(range(23)) and set(used.values()) <= {39, 40, 41}


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_batches_of_one_process(world_size):
    alone = training_batches(30)
    shares = [training_batches(30, rank=r, world_size=world_size) for r in range(world_size)]
    for batch, *parts in zip(alone, *shares, strict=True):
        assert [list(part) for part in parts] == [batch[r::world_size] for r in range(world_size)]


@pytest.mark.parametrize("start", [1, 5, 6, 29, 30])
def test_resumed_run_continues_with_the_same_batches(start):
    assert training_batches(30, start=start) == training_batches(30)[start:]


def test_second_iteration_over_a_sampler_repeats_the_first():
    sampler = EpochBatchSampler(ShuffledSampler(5, seed=0), [0] * 5, 2)
    iterations = IterationBasedBatchSampler(sampler, 9)
    first = list(iterations)
    assert list(iterations) == first
    assert list(islice(iterations, 3)) == first[:3]


def test_data_set_smaller_than_a_batch_fills_it_from_several_epochs():
    batches = training_batches(4, length=3, batch_size=5)
    assert [len(batch) for batch in batches] == [5] * 4
    assert len({sample.seed for batch in batches for sample in batch}) == 20


def test_batch_that_ranks_cannot_share_is_refused():
    with pytest.raises(ValueError, match=r"batch of 4 images .* by 3 processes"):
        EpochBatchSampler(ShuffledSampler(9, seed=0), [0] * 9, 4, world_size=3)
