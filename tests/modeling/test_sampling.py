"""Which anchors and regions are drawn: how many, how evenly, and depending on what."""

import torch

from maskrcnn_lib.modeling.sampling import IGNORED, NEGATIVE, POSITIVE, random_keys, sample_balanced
from maskrcnn_lib.utils.random import hash_integers


def draw(labels, seeds, **limits):
    ids = torch.arange(labels.shape[1])
    return sample_balanced(labels, random_keys(torch.tensor(seeds), ids), **limits)


def make_labels(count, *, positives, negatives, seed=0):
    labels = torch.full((count,), IGNORED)
    labels[:positives] = POSITIVE
    labels[positives : positives + negatives] = NEGATIVE
    return labels[torch.randperm(count, generator=torch.Generator().manual_seed(seed))]


def test_keys_are_those_of_splitmix():
    # utils.random computes the same hash with Python's unbounded integers.
    seed, ids = 123456789, [0, 1, 77, 1 << 60]
    keys = random_keys(torch.tensor([seed]), torch.tensor(ids))[0].tolist()
    mask, gamma = (1 << 64) - 1, 0x9E3779B97F4A7C15

    def mix(value):
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
        return value ^ (value >> 31)

    start = mix((seed + gamma) & mask)
    assert start == hash_integers(seed)
    assert keys == [mix((start + (i + 1) * gamma) & mask) & (mask >> 1) for i in ids]


def test_keys_are_spread_evenly_for_neighbouring_seeds_and_ids():
    keys = random_keys(torch.arange(100), torch.arange(1000)).double() / 2**63
    assert keys.min() >= 0
    assert keys.max() < 1
    # 100 000 uniform values: the mean of a row has a standard error of .009, a tenth's share .001.
    assert (keys.mean(dim=1) - 0.5).abs().max() < 0.045
    assert (keys.mean(dim=0) - 0.5).abs().max() < 0.14
    shares = torch.histc(keys, 10, 0, 1) / keys.numel()
    assert (shares - 0.1).abs().max() < 0.005


def test_positives_up_to_their_share_and_negatives_fill_up():
    labels = torch.stack(
        [
            make_labels(500, positives=100, negatives=300),
            make_labels(500, positives=5, negatives=300),
            make_labels(500, positives=100, negatives=10),
            make_labels(500, positives=0, negatives=500),
            make_labels(500, positives=0, negatives=0),
        ]
    )
    sample = draw(labels, [1, 2, 3, 4, 5], batch_size=64, positive_fraction=0.25)
    assert sample.indices.shape == (5, 64)
    assert sample.positive.sum(dim=1).tolist() == [16, 5, 16, 0, 0]
    assert sample.valid.sum(dim=1).tolist() == [64, 64, 26, 64, 0]
    for row, indices, positive, valid in zip(labels, *sample, strict=True):
        assert (row[indices[positive]] == POSITIVE).all()
        assert (row[indices[valid & ~positive]] == NEGATIVE).all()
        assert len(indices[valid].unique()) == int(valid.sum())
        assert valid.tolist() == sorted(valid.tolist(), reverse=True)
        assert positive.tolist() == sorted(positive.tolist(), reverse=True)


def test_fewer_candidates_than_slots():
    sample = draw(torch.tensor([[1, 0, 1]]), [7], batch_size=64, positive_fraction=0.5)
    assert sample.indices.shape == (1, 3)
    assert sample.valid.all()
    assert sorted(sample.indices[0].tolist()) == [0, 1, 2]


def test_an_image_draws_the_same_alone_and_in_any_batch():
    labels = torch.stack([make_labels(300, positives=60, negatives=200, seed=i) for i in range(3)])
    together = draw(labels, [10, 20, 30], batch_size=32, positive_fraction=0.5)
    for i, seed in enumerate([10, 20, 30]):
        alone = draw(labels[i : i + 1], [seed], batch_size=32, positive_fraction=0.5)
        assert alone.indices[0].tolist() == together.indices[i].tolist()


def test_another_seed_draws_others():
    labels = make_labels(300, positives=60, negatives=200)[None]
    first = draw(labels, [1], batch_size=32, positive_fraction=0.5)
    second = draw(labels, [2], batch_size=32, positive_fraction=0.5)
    assert set(first.indices[0].tolist()) != set(second.indices[0].tolist())


def test_every_candidate_is_drawn_equally_often():
    labels = torch.tensor([[1] * 10 + [0] * 30]).expand(4000, -1)
    sample = draw(labels, list(range(4000)), batch_size=8, positive_fraction=0.5)
    counts = torch.bincount(sample.indices[sample.valid], minlength=40) / 4000
    # Shares of .4 and .133 with standard errors of .0077 and .0054.
    assert (counts[:10] - 0.4).abs().max() < 0.035
    assert (counts[10:] - 4 / 30).abs().max() < 0.025
