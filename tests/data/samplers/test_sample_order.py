"""The order of an epoch depends on (seed, epoch) alone; rare classes come more often."""

from collections import Counter

import pytest

from maskrcnn_lib.data.samplers import RepeatFactorSampler, ShuffledSampler, repeat_factors


def epoch_of(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


def test_epoch_holds_every_sample_once_in_its_own_order():
    sampler = ShuffledSampler(50, seed=1)
    orders = [[sample.index for sample in epoch_of(sampler, epoch)] for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len(set(map(tuple, orders))) == 3


def test_order_and_seeds_do_not_depend_on_what_was_visited_before():
    walked, jumped = ShuffledSampler(20, seed=1), ShuffledSampler(20, seed=1)
    for epoch in range(4):
        expected = epoch_of(walked, epoch)
    assert epoch_of(jumped, 3) == expected
    assert epoch_of(ShuffledSampler(20, seed=2), 3) != expected


def test_empty_data_set_is_refused():
    with pytest.raises(ValueError, match="empty"):
        ShuffledSampler(0, seed=0)


def test_fractional_factors_hold_on_average():
    sampler = RepeatFactorSampler([1.0, 2.3, 3.0], seed=0)
    shown = Counter(s.index for epoch in range(1000) for s in epoch_of(sampler, epoch))
    assert shown[0] == 1000 and shown[2] == 3000
    # 1000 draws of .3: standard deviation 14.5
    assert abs(shown[1] - 2300) < 75


def test_length_is_that_of_the_epoch():
    sampler = RepeatFactorSampler([1.5] * 11, seed=0)
    for epoch in range(5):
        assert len(epoch_of(sampler, epoch)) == len(sampler)


def test_repeats_of_a_sample_have_different_seeds():
    seeds = [s.seed for s in epoch_of(RepeatFactorSampler([4.0, 1.0], seed=0), 0)]
    assert len(set(seeds)) == 5


def test_factor_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        RepeatFactorSampler([1.0, 0.5], seed=0)


def test_repeat_factors_follow_the_rarest_class():
    # class 1 in all four images, class 2 in one: sqrt(.5 / .25) = 1.414
    labels = [[1, 1], [1, 2], [1], [1]]
    assert repeat_factors(labels, 0.5) == pytest.approx([1, 2**0.5, 1, 1])
    assert repeat_factors([*labels, []], 0.1) == [1.0] * 5
