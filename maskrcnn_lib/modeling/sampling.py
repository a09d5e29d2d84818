"""Choice of the anchors or proposals that a loss looks at (Faster R-CNN, section 3.1.3).

The choice is a pure function of the image's seed and of what there is to choose from: every
candidate gets a key, a hash of seed and position, and those with the highest keys are taken. It
does not depend on the other images of the batch, on ranks, on the device or on what was drawn
before.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from maskrcnn_lib.utils.random import hash_integers

# Constants of SplitMix64 (Steele, Lea, Flood 2014) as signed 64-bit integers.
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST_FACTOR = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND_FACTOR = 0x94D049BB133111EB - (1 << 64)
_LARGEST = (1 << 63) - 1

POSITIVE = 1
NEGATIVE = 0
IGNORED = -1


class Sample(NamedTuple):
    """Chosen candidates of N images in S slots each: positives first, then negatives.

    Attributes:
        indices: (N, S) int64, which candidate; any in unused slots.
        positive: (N, S) bool, whether the slot holds a positive.
        valid: (N, S) bool, whether the slot is used.
    """

    indices: Tensor
    positive: Tensor
    valid: Tensor


def hashed_seeds(seeds: Tensor) -> Tensor | None:
    """``starts`` for ``random_keys``, from seeds (N,) on the CPU; None where they are elsewhere.

    Two draws of each image begin with the same hash of its seed, which takes torch 13 calls.
    """
    if seeds.device.type != "cpu":
        return None
    hashes = [hash_integers(seed) for seed in seeds.tolist()]
    return torch.tensor([h - (1 << 64) if h > _LARGEST else h for h in hashes], dtype=torch.int64)


def random_keys(seeds: Tensor, ids: Tensor, *, starts: Tensor | None = None) -> Tensor:
    """A number for each image and candidate that looks random, the same on every device.

    Args:
        seeds: (N,) int64, one per image.
        ids: (K,) or (N, K) int64 >= 0, names of the candidates.
        starts: (N,) what ``hashed_seeds`` gives, where it is known already.

    Returns:
        (N, K) int64, uniform in 0 .. 2^63 - 1.
    """
    if starts is None:
        starts = _mix(seeds + _GAMMA)
    return _mix(starts[:, None] + (ids + 1) * _GAMMA) & _LARGEST


def _mix(value: Tensor) -> Tensor:
    """Scatters 64 bits over 64 bits, one to one (the finaliser of SplitMix64)."""
    value = (value ^ _shift_right(value, 30)) * _FIRST_FACTOR
    value = (value ^ _shift_right(value, 27)) * _SECOND_FACTOR
    return value ^ _shift_right(value, 31)


def _shift_right(value: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's own repeats the sign."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def labels_of_matches(matches: Tensor) -> Tensor:
    """POSITIVE, NEGATIVE or IGNORED by what ``Matcher`` gave: an index, -1 or -2, in that order."""
    return (matches + 1).clamp(max=POSITIVE)


def sample_balanced(
    labels: Tensor, keys: Tensor, *, batch_size: int, positive_fraction: float
) -> Sample:
    """Draws positives up to their share, and fills up with negatives.

    Args:
        labels: (N, K) POSITIVE, NEGATIVE or IGNORED.
        keys: (N, K) int64 >= 0; of each kind, the candidates with the highest keys are taken.
        batch_size: candidates to take of each image.
        positive_fraction: largest share of positives.

    Returns:
        S = min(batch_size, K) slots per image.
    """
    count = min(batch_size, labels.shape[1])
    most_positive = min(int(batch_size * positive_fraction), count)
    other = torch.stack((labels != POSITIVE, labels != NEGATIVE), dim=1)  # (N, 2, K)
    ranked = keys[:, None].masked_fill(other, -1).topk(count, dim=2).indices  # (N, 2, S)
    positive_count, negative_count = (labels.shape[1] - other.sum(dim=2)).split(1, dim=1)
    positive_count = positive_count.clamp(max=most_positive)
    slots = torch.arange(count, device=labels.device)
    positive = slots < positive_count
    # Both lists one behind the other; slot j holds positive j or negative j - positives.
    source = torch.where(positive, slots, slots - positive_count + count)
    indices = ranked.flatten(1).gather(1, source)
    return Sample(indices, positive, slots < positive_count + negative_count)
