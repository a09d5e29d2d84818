"""Randomness as a pure function of (seed, epoch, sample), not of who draws it and when.

The hash is the finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
Generators, OOPSLA 2014).
"""

import numpy as np

_MASK = (1 << 64) - 1
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15


def _mix(value: int) -> int:
    """Scatters 64 bits over 64 bits, one to one."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def hash_integers(*values: int) -> int:
    """A 64-bit hash of integers that depends on their order; negative ones count as 2^64 + value.

    Returns:
        0 .. 2^64 - 1.
    """
    state = 0
    for value in values:
        state = _mix((state + _GOLDEN_GAMMA + (value & _MASK)) & _MASK)
    return state


def sample_seed(seed: int, epoch: int, index: int, *, repeat: int = 0) -> int:
    """The seed of everything random that happens to one sample.

    Args:
        seed: of the run.
        epoch: pass over the data set, from 0.
        index: of the sample in the data set.
        repeat: how often this epoch has shown the sample before.

    Returns:
        0 .. 2^63 - 1, so that it fits an int64 tensor.
    """
    return hash_integers(seed, epoch, index, repeat) >> 1


def generator_from(seed: int) -> np.random.Generator:
    """A generator that starts at a seed of :func:`sample_seed`."""
    return np.random.Generator(np.random.PCG64(seed))
