"""Seeds depend on (seed, epoch, sample) and on nothing else."""

import numpy as np

from maskrcnn_lib.utils.random import generator_from, hash_integers, sample_seed

# First outputs of SplitMix64 started at 1234567, published with its reference implementation.
_SPLITMIX64_OF_1234567 = [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_hash_of_one_value_is_splitmix64():
    gamma = 0x9E3779B97F4A7C15
    starts = [1234567 + i * gamma for i in range(3)]
    assert [hash_integers(start) for start in starts] == _SPLITMIX64_OF_1234567


def test_neighbouring_samples_epochs_seeds_and_repeats_all_differ():
    seeds = {
        sample_seed(seed, epoch, index, repeat=repeat)
        for seed in range(5)
        for epoch in range(10)
        for index in range(200)
        for repeat in range(2)
    }
    assert len(seeds) == 5 * 10 * 200 * 2
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_order_of_the_arguments_matters():
    assert sample_seed(1, 2, 3) != sample_seed(3, 2, 1) != sample_seed(2, 1, 3)


def test_each_bit_is_set_in_half_of_the_seeds():
    values = np.array([sample_seed(0, 0, index) for index in range(4000)], dtype=np.int64)
    shares = ((values[:, None] >> np.arange(63)) & 1).mean(axis=0)
    # 4000 draws: standard deviation .008; .04 is five of them
    assert np.abs(shares - 0.5).max() < 0.04


def test_generators_of_one_sample_agree_and_of_two_do_not():
    seeds = (sample_seed(7, 1, index) for index in (5, 5, 6))
    first, same, other = (generator_from(seed).random(8) for seed in seeds)
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)
