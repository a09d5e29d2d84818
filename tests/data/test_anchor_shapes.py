"""Anchors that are fitted to objects."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from maskrcnn_lib.data.anchor_shapes import (
    best_overlaps,
    cluster_numbers,
    fit_anchors,
    object_shapes,
)
from maskrcnn_lib.structures.bounding_box import BoxList


def _shapes(sizes, ratios, *, noise=0.0, count=200):
    """(N, 2) widths and heights around every pair of a size and a ratio."""
    rng = np.random.default_rng(0)
    pairs = np.array([(s, r) for s in sizes for r in ratios]).repeat(count, axis=0)
    size, ratio = (pairs * np.exp(noise * rng.standard_normal(pairs.shape))).T
    return np.stack([size / np.sqrt(ratio), size * np.sqrt(ratio)], axis=1)


def test_the_sizes_and_ratios_that_objects_have_are_found():
    sizes, ratios = fit_anchors(_shapes([20, 90, 300], [0.5, 2.0]), sizes=3, ratios=2)
    np.testing.assert_allclose(sizes, [20, 90, 300])
    np.testing.assert_allclose(ratios, [0.5, 2.0])
    sizes, ratios = fit_anchors(_shapes([20, 90, 300], [0.5, 2.0], noise=0.1), sizes=3, ratios=2)
    np.testing.assert_allclose(sizes, [20, 90, 300], rtol=0.05)  # noise of 10 % on 400 objects
    np.testing.assert_allclose(ratios, [0.5, 2.0], rtol=0.05)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_clusters_are_those_of_k_means(count):
    values = np.random.default_rng(1).normal(size=500)
    means = cluster_numbers(values, count)
    nearest = np.abs(values[:, None] - means).argmin(axis=1)
    np.testing.assert_allclose(means, [values[nearest == k].mean() for k in range(count)])


def test_overlaps_are_those_of_torchvision():
    shapes = _shapes([10, 60], [0.4, 1.5], noise=0.5, count=20)
    sizes, ratios = np.array([16.0, 50.0]), np.array([0.5, 1.0, 2.0])
    anchors = np.array([(s / np.sqrt(r), s * np.sqrt(r)) for s in sizes for r in ratios])
    boxes = (torch.from_numpy(np.concatenate([-part, part], axis=1)) for part in (shapes, anchors))
    expected = box_iou(*boxes).amax(dim=1).numpy()
    np.testing.assert_allclose(best_overlaps(shapes, sizes, ratios), expected)


def test_fitted_anchors_fit_better_than_clusters():
    shapes = np.exp(np.random.default_rng(2).normal(4, 0.8, size=(1000, 2)))
    sizes, ratios = fit_anchors(shapes, sizes=4, ratios=3)
    clusters = (
        np.exp(cluster_numbers(np.log(shapes).mean(axis=1), 4)),
        np.exp(cluster_numbers(np.log(shapes[:, 1] / shapes[:, 0]), 3)),
    )
    fitted = best_overlaps(shapes, sizes, ratios).mean()
    assert fitted > best_overlaps(shapes, *clusters).mean()
    assert fitted > best_overlaps(shapes, 1.05 * sizes, ratios).mean()


def test_more_anchors_than_objects_are_refused():
    with pytest.raises(ValueError, match="1 different objects cannot be put into 2"):
        fit_anchors(np.full((9, 2), 7.0), sizes=2, ratios=1)


def test_objects_are_measured_at_the_scale_of_the_network():
    class Photos:
        def __len__(self):
            return 1

        def target(self, index):
            return BoxList(torch.tensor([[0.0, 0, 10, 20], [5, 5, 5, 9]]), (200, 100))

    shapes = object_shapes(Photos(), min_size=300, max_size=1000, rule="round")
    np.testing.assert_allclose(shapes, [[30, 60]])  # and the box without width is none
