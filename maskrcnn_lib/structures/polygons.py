"""Polygons of one instance as arrays: checking, rasterising, and tracing of bitmaps.

A polygon is (K, 2) float64, x and y in continuous pixels. The area of an instance is the union of
its polygons; a polygon that crosses itself is filled by the even-odd rule, as pycocotools does.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from maskrcnn_lib.structures.rle import decode_rle

_MIN_POINTS = 3
_FAR = 2.0**15  # pixels; pycocotools allocates in proportion to the length of an edge


def read_polygons(polygons: Sequence[Sequence[float] | np.ndarray | Tensor]) -> list[np.ndarray]:
    """Checks the polygons of one instance.

    Polygons with fewer than three points enclose no area and are left out.

    Args:
        polygons: each flat [x1, y1, x2, y2, ...] or (K, 2).

    Returns:
        (K, 2) float64 each; empty where no polygon encloses an area.

    Raises:
        ValueError: an odd number of coordinates, or one that is not a finite number.
    """
    result = []
    for i, polygon in enumerate(polygons):
        try:
            given = polygon.cpu().numpy() if isinstance(polygon, Tensor) else polygon
            values = np.array(given, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"polygon {i} must be numbers x1, y1, x2, y2, ...") from error
        if values.ndim not in (1, 2) or (values.ndim == 2 and values.shape[1] != 2):
            raise ValueError(f"polygon {i} must be flat or (K, 2), got shape {values.shape}")
        if values.size % 2:
            raise ValueError(f"polygon {i} has an odd number of coordinates ({values.size})")
        if not np.isfinite(values).all():
            raise ValueError(f"polygon {i} has coordinates that are not finite")
        if values.size >= 2 * _MIN_POINTS:
            result.append(values.reshape(-1, 2))
    return result


def rasterize(polygons: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """The pixels that the union of polygons covers, by pycocotools' rule.

    Args:
        polygons: (K, 2) float64 each, checked by :func:`read_polygons`.
        size: (height, width).

    Returns:
        (height, width) bool.
    """
    height, width = size
    near = (-_FAR, -_FAR), (width + _FAR, height + _FAR)
    flat = [clip_polygon(polygon, *near).reshape(-1) for polygon in polygons]
    flat = [polygon for polygon in flat if polygon.size >= 2 * _MIN_POINTS]
    if not flat:
        return np.zeros(size, dtype=bool)
    from pycocotools import mask as coco_mask

    return decode_rle(coco_mask.merge(coco_mask.frPyObjects(flat, height, width)), size)


def clip_polygon(
    polygon: np.ndarray, low: tuple[float, float], high: tuple[float, float]
) -> np.ndarray:
    """The part of a polygon in a rectangle (Sutherland and Hodgman, Reentrant polygon clipping).

    Args:
        polygon: (K, 2) corners.
        low, high: the rectangle's corners x, y, which belong to it.

    Returns:
        (L, 2); parts that belong together only outside stay joined by lines along the border. A
        polygon that lies inside comes back as it is.
    """
    for axis in (0, 1):
        for limit, sign in ((low[axis], 1), (high[axis], -1)):
            depth = sign * (polygon[:, axis] - limit)
            inside = depth >= 0
            if inside.all():
                continue
            follower, its_depth = np.roll(polygon, -1, axis=0), np.roll(depth, -1)
            crosses = inside != np.roll(inside, -1)
            share = np.divide(depth, depth - its_depth, out=np.zeros_like(depth), where=crosses)
            border = polygon + share[:, None] * (follower - polygon)
            border[:, axis] = limit
            corners = np.stack((polygon, border), axis=1).reshape(-1, 2)
            polygon = corners[np.stack((inside, crosses), axis=1).reshape(-1)]
    return polygon


def trace(bitmap: np.ndarray) -> list[np.ndarray]:
    """Polygons along the pixel edges of a bitmap; rasterised they give the bitmap again.

    Holes are kept: where there are any, all outlines are joined to one polygon by bridges that are
    walked there and back and so, by the even-odd rule, cover nothing.

    Args:
        bitmap: (H, W) bool.

    Returns:
        (K, 2) float64 each, whole numbers; empty for an empty bitmap.
    """
    padded = np.pad(np.asarray(bitmap, dtype=bool), 1)
    loops = _outlines(padded)
    if not loops:
        return []
    # The first point of a loop is its topmost left one; the pixel right below it lies inside.
    is_hole = [not padded[loop[0][1] + 1, loop[0][0] + 1] for loop in loops]
    if not any(is_hole):
        return [np.array(loop, dtype=np.float64) for loop in loops]
    joined = loops[0] + loops[0][:1]
    for loop, hole in zip(loops[1:], is_hole[1:], strict=True):
        around = [loop[0], *(loop[:0:-1] if hole else loop[1:]), loop[0]]
        joined += around + loops[0][:1]
    return [np.array(joined[:-1], dtype=np.float64)]


def _outlines(padded: np.ndarray) -> list[list[tuple[int, int]]]:
    """Closed loops of corners (x, y) along all boundaries of a zero-padded bitmap.

    In reading order the corners of a row are, two by two, the ends of its horizontal edges, and
    likewise in columns; so a corner's neighbours are known without following any pixel. Where two
    pixels touch only diagonally the corner counts twice.
    """
    upper_left, upper_right = padded[:-1, :-1], padded[:-1, 1:]
    lower_left, lower_right = padded[1:, :-1], padded[1:, 1:]
    odd = upper_left ^ upper_right ^ lower_left ^ lower_right
    touch = (upper_left == lower_right) & (upper_right == lower_left) & (upper_left != upper_right)
    ys, xs = np.nonzero(odd | touch)
    times = np.where(touch[ys, xs], 2, 1)
    ys, xs = np.repeat(ys, times), np.repeat(xs, times)
    partner = np.arange(len(xs)) ^ 1
    by_column = np.lexsort((ys, xs))
    vertical = np.empty_like(partner)
    vertical[by_column] = by_column[partner]

    points = list(zip(xs.tolist(), ys.tolist(), strict=True))
    across, along = partner.tolist(), vertical.tolist()
    seen = [False] * len(points)
    loops = []
    for start in range(len(points)):
        if seen[start]:
            continue
        loop, corner = [], start
        while not seen[corner]:
            end = across[corner]
            seen[corner] = seen[end] = True
            loop += [points[corner], points[end]]
            corner = along[end]
        loops.append(loop)
    return loops
