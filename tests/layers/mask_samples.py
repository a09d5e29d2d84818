"""Objects and boxes of which mask targets are made."""

import importlib

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from maskrcnn_lib.layers._library import ops_available
from maskrcnn_lib.structures.flat_polygons import FlatPolygons

needs_ops = pytest.mark.skipif(not ops_available(), reason="the compiled operators are not built")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
both_ways = pytest.mark.parametrize("compiled", [True, False])
SIZES = (14, 28, 56, 1, 7, 65)


def without_ops(monkeypatch):
    module = importlib.import_module("maskrcnn_lib.layers.mask_targets")
    monkeypatch.setattr(module, "_compiled", lambda tensor: False)


def random_boxes(n, rng):
    """Whole and fractional edges, narrower than a pixel and as wide as an image: float32."""
    extent = rng.uniform(0, 1, (n, 2)) ** 2 * 300
    corner = rng.uniform(0, 300, (n, 2))
    extent[0::3], corner[0::3] = extent[0::3].round(), corner[0::3].round()
    extent[1::31, 0] = 0
    return np.concatenate([corner, corner + extent], axis=1).astype(np.float32)


def random_polygon(kind, box, size, rng):
    """A polygon near a box, mostly crossing itself: (K, 2) float64. There are 12 kinds."""
    corner, extent = box[:2].astype(np.float64), np.maximum(box[2:] - box[:2], 1.0)
    count = int(rng.integers(3, 12))
    centre = rng.uniform(-0.2, 1.2, 2)
    spread = rng.choice([0.02, 0.3, 1.0, 5.0])
    relative = centre + rng.normal(size=(count, 2)) * spread
    angles = np.sort(rng.uniform(0, 2 * np.pi, count))
    cell = 1 / size
    if kind == 0:  # does not cross itself
        relative = centre + spread * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    elif kind == 1:  # smaller than a cell
        relative = centre + rng.normal(size=(count, 2)) * cell * 0.3
    elif kind == 2:  # each point twice
        relative = np.repeat(relative, 2, axis=0)
    elif kind == 3:  # one point
        relative[:] = centre
    elif kind == 4:  # no area
        relative[:, rng.integers(2)] = centre[0]
    elif kind == 5:  # huge
        relative = centre + (relative - centre) * 100
    elif kind == 6:  # outside
        relative += rng.choice([-30, 30], 2)
    elif kind == 7:  # on the fine grid, where rounding has ties
        relative = rng.integers(-5, 5 * size + 5, (count, 2)) * cell / 5
    elif kind == 8:  # edges along the window's and through its corners
        relative = rng.integers(-2, 5, (count, 2)) / 2
    elif kind == 9:  # along both axes
        relative[1::2, 0] = relative[: count // 2 * 2 : 2, 0]
    points = corner + relative * extent
    return points.round() if kind == 10 else points  # kind 11: as drawn


def random_problem(seed, n, size):
    """n instances of one to three polygons, and a box for each."""
    rng = np.random.default_rng((seed, size))
    boxes = random_boxes(n, rng)
    instances = [
        [random_polygon(i % 12, box, size, rng) for _ in range(rng.integers(1, 4))]
        for i, box in enumerate(boxes)
    ]
    return flatten(instances), torch.from_numpy(boxes), torch.arange(n)


def flatten(instances):
    points = np.concatenate([polygon for instance in instances for polygon in instance])
    counts = [[len(polygon) for polygon in instance] for instance in instances]
    return FlatPolygons.from_counts(torch.from_numpy(points), counts)


def random_bitmaps(seed, n):
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    height, width = ((50, 70), (1, 30), (33, 2), (120, 90))[seed % 4]
    coarse = torch.randn(n, 1, 6, 6, generator=generator)
    bitmaps = F.interpolate(coarse, (height, width), mode="bilinear")[:, 0] > 0
    bitmaps[0::5] = torch.rand(len(bitmaps[0::5]), height, width, generator=generator) > 0.5
    corner = rng.uniform(-0.3, 1, (3 * n, 2)) * (width, height)
    corner[0::4] = corner[0::4].round()
    extent = rng.uniform(0, 1, (3 * n, 2)) ** 2 * (width, height) * 1.5 + 0.1
    boxes = torch.from_numpy(np.concatenate([corner, corner + extent], axis=1)).float()
    return bitmaps, boxes, torch.from_numpy(rng.integers(0, n, 3 * n))
