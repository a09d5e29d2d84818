"""Sizes and aspect ratios of anchors that fit the objects of a data set.

Objects are clustered by the logarithms of their size (root of the area) and of their aspect ratio,
one after the other, as an RPN has every ratio at every size; then sizes and ratios are moved while
that makes them fit better. An anchor's fit to an object is their IoU when both are centred on each
other; what counts is the mean over the objects with the anchor that fits each best.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from maskrcnn_lib.data.statistics import read_target
from maskrcnn_lib.data.transforms.resize import OutputSizeRule, resized_size

_MOST_STEPS = 300
_MOVES = (0.2, 0.1, 0.05, 0.02)  # of the logarithm of a size or a ratio
_LOOKED_AT = 10_000  # objects; more change little


def object_shapes(
    dataset: Any, *, min_size: int, max_size: int, rule: OutputSizeRule
) -> np.ndarray:
    """Widths and heights of all objects at the network's scale.

    Args:
        dataset: any data set; images are not read where it can give targets without.
        min_size, max_size, rule: see :func:`maskrcnn_lib.data.transforms.resize.resized_size`.

    Returns:
        (N, 2) float64 width, height in pixels; boxes without an area are left out.
    """
    shapes = [np.zeros((0, 2))]
    for index in range(len(dataset)):
        target = read_target(dataset, index)
        width, height = target.size
        size = resized_size(height, width, min_size=min_size, max_size=max_size, rule=rule)
        scale = np.array([size[1] / width, size[0] / height])
        shapes.append(target.convert("xywh").bbox[:, 2:].double().numpy() * scale)
    joined = np.concatenate(shapes)
    return joined[(joined > 0).all(axis=1)]


def fit_anchors(
    shapes: np.ndarray,
    *,
    sizes: int = 5,
    ratios: int | Sequence[float] = 3,
    scales: Sequence[float] = (1.0,),
) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and ratios that fit objects.

    Args:
        shapes: (N, 2) width, height.
        sizes: how many.
        ratios: how many, or those that are to stay as they are.
        scales: by which each size is multiplied for the anchors that it stands for.

    Returns:
        Sizes (root of the area) and ratios (height / width), both (k,) float64 and ascending.

    Raises:
        ValueError: there are fewer different sizes or ratios than are asked for.
    """
    width, height = shapes.T
    size = cluster_numbers(np.log(width * height) / 2, sizes)
    size -= np.log(scales).mean()
    looked_at = shapes[:: -(-len(shapes) // _LOOKED_AT)]

    def fit(logarithms: np.ndarray) -> float:
        values = np.exp(logarithms)
        shown = values[sizes:] if isinstance(ratios, int) else np.array(ratios)
        return float(best_overlaps(looked_at, scaled(values[:sizes], scales), shown).mean())

    if not isinstance(ratios, int):
        return np.sort(_moved(size, fit)), np.sort(ratios)
    ratio = cluster_numbers(np.log(height / width), ratios)
    found = _moved(np.concatenate([size, ratio]), fit)
    return np.sort(found[:sizes]), np.sort(found[sizes:])


def scaled(sizes: np.ndarray, scales: Sequence[float]) -> np.ndarray:
    """(k * scales,) every size times every scale."""
    return np.outer(sizes, scales).reshape(-1)


def _moved(logarithms: np.ndarray, fit: Callable[[np.ndarray], float]) -> np.ndarray:
    """Numbers of which none can be moved by the smallest step to a better fit."""

    best = fit(logarithms)
    for move in _MOVES:
        improves = True
        while improves:
            improves = False
            for step in [*(move * np.eye(len(logarithms))), *(-move * np.eye(len(logarithms)))]:
                tried = fit(logarithms + step)
                if tried > best + 1e-9:
                    logarithms, best, improves = logarithms + step, tried, True
    return np.exp(logarithms)


def cluster_numbers(values: np.ndarray, count: int) -> np.ndarray:
    """k-means of numbers (Lloyd's algorithm), beginning with their quantiles.

    Args:
        values: (N,).
        count: clusters.

    Returns:
        (count,) means of the clusters, ascending: each value belongs to the mean nearest to it.

    Raises:
        ValueError: there are fewer different values than clusters, or no cluster is asked for.
    """
    values = np.sort(values)
    if not 1 <= count <= len(np.unique(values)):
        raise ValueError(f"{len(np.unique(values))} different objects cannot be put into {count}")
    means = np.unique(values)[
        np.linspace(0, len(np.unique(values)) - 1, 2 * count + 1).astype(int)[1::2]
    ]
    sums = np.concatenate([[0.0], np.cumsum(values)])
    for _ in range(_MOST_STEPS):
        # of sorted values, those of a cluster lie together
        borders = np.searchsorted(values, (means[1:] + means[:-1]) / 2)
        edges = np.concatenate([[0], borders, [len(values)]])
        counts = np.diff(edges)
        new = np.where(counts > 0, np.diff(sums[edges]) / np.maximum(counts, 1), means)
        if np.array_equal(new, means):
            break
        means = new
    return means


def best_overlaps(shapes: np.ndarray, sizes: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """(N,) IoU of each object with the anchor that fits it best, centred on each other."""
    best = np.zeros(len(shapes))
    for size in sizes:
        for ratio in ratios:
            anchor = np.array([size / np.sqrt(ratio), size * np.sqrt(ratio)])
            common = np.minimum(shapes, anchor).prod(axis=1)
            best = np.maximum(best, common / (shapes.prod(axis=1) + size**2 - common))
    return best
