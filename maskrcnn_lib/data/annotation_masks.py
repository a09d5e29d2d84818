"""Validation of one object's mask as COCO files give it, before any C code sees it.

pycocotools crashes the process on coordinates that are not finite, takes a polygon of two points
for a box, and reads beyond the end of run lengths that are too short.
"""

import math
from collections.abc import Callable, Sequence
from operator import mul
from typing import Any, NamedTuple

import numpy as np

from maskrcnn_lib.data.annotation_report import Action, brief
from maskrcnn_lib.structures.rle import read_runs

MAX_COORDINATE = 1e5  # pixels
_MIN_NUMBERS = 6  # of a polygon: three points
_COLLINEAR = 1e-9  # distance from a line, relative to the polygon's extent

# Takes action, kind and detail of a finding.
Add = Callable[[Action, str, str], None]


class CheckedMask(NamedTuple):
    """A mask that can be rasterised.

    Attributes:
        segmentation: list of flat polygons, or RLE with counts as str or list.
        box: x, y, width, height around it, in pixels, within the image.
    """

    segmentation: list[list[float]] | dict[str, Any]
    box: tuple[float, float, float, float]

    def area(self) -> float:
        """In square pixels; where polygons overlap it counts twice."""
        if isinstance(self.segmentation, list):
            return sum(abs(_signed_area(polygon)) for polygon in self.segmentation)
        height, width = self.segmentation["size"]
        return float(read_runs(self.segmentation, (height, width))[1::2].sum())


def check_segmentation(value: Any, size: tuple[int, int], add: Add) -> CheckedMask | None:
    """Checks and repairs the ``segmentation`` of an annotation.

    Args:
        value: what the file has; None or [] for an object without mask.
        size: (width, height) of the image.
        add: is told about everything that is repaired or dropped.

    Returns:
        None where there is no mask, or none that can be used.
    """
    if value is None or value == []:
        return None
    if isinstance(value, dict):
        return _check_rle(value, size, add)
    if isinstance(value, list):
        return _check_polygons(value, size, add)
    add("dropped", "mask that is neither polygons nor RLE", brief(value))
    return None


def _check_rle(rle: dict[str, Any], size: tuple[int, int], add: Add) -> CheckedMask | None:
    width, height = size
    try:
        runs = read_runs(rle, (height, width))
    except ValueError as error:
        add("dropped", "RLE that does not fit its image", str(error)[:200])
        return None
    ends = np.cumsum(runs)
    starts, ends = (ends - runs)[1::2], ends[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if len(starts) == 0:
        add("dropped", "mask without a pixel", "")
        return None
    first, last = starts // height, (ends - 1) // height
    y1, y2 = int((starts % height).min()), int(((ends - 1) % height).max()) + 1
    if (first != last).any():  # a run past the end of a column covers its last and the next's first
        y1, y2 = 0, height
    x1, x2 = int(first.min()), int(last.max()) + 1
    counts = rle["counts"]
    counts = counts.decode("ascii") if isinstance(counts, bytes) else counts
    counts = counts if isinstance(counts, str) else runs.tolist()
    box = (float(x1), float(y1), float(x2 - x1), float(y2 - y1))
    return CheckedMask({"size": [height, width], "counts": counts}, box)


def _check_polygons(value: list[Any], size: tuple[int, int], add: Add) -> CheckedMask | None:
    if _is_number(value[0]):
        add("repaired", "polygon that was not inside a list of polygons", "")
        value = [value]
    elif len(value) > 2 and all(_is_point(entry) for entry in value):
        value = [value]
    polygons = [polygon for entry in value if (polygon := _check_polygon(entry, add)) is not None]
    if not polygons:
        add("dropped", "mask of which no polygon is left", "")
        return None
    width, height = size
    x1 = max(min(min(polygon[0::2]) for polygon in polygons), 0)
    y1 = max(min(min(polygon[1::2]) for polygon in polygons), 0)
    x2 = min(max(max(polygon[0::2]) for polygon in polygons), width)
    y2 = min(max(max(polygon[1::2]) for polygon in polygons), height)
    if x2 <= x1 or y2 <= y1:
        add("dropped", "mask outside the image", brief(polygons[0]))
        return None
    return CheckedMask(polygons, (x1, y1, x2 - x1, y2 - y1))


def _check_polygon(polygon: Any, add: Add) -> list[float] | None:
    """The polygon as a flat list; None where it has to be left out."""
    if isinstance(polygon, list) and len(polygon) > 2 and all(_is_point(p) for p in polygon):
        add("repaired", "polygon written as pairs of coordinates", "")
        polygon = [coordinate for point in polygon for coordinate in point]
    problem = _polygon_problem(polygon)
    if problem:
        add("dropped", problem, brief(polygon))
        return None
    return polygon


def _polygon_problem(polygon: Any) -> str:
    """What makes a polygon unusable; "" for a good one."""
    if not isinstance(polygon, list):
        return "polygon that is not a list of numbers"
    try:
        total = sum(polygon)  # not finite where one of them is not
        low, high = min(polygon, default=0), max(polygon, default=0)
        far = low < -MAX_COORDINATE or high > MAX_COORDINATE
        finite = low != -math.inf and high != math.inf and (far or math.isfinite(total))
    except (TypeError, OverflowError):  # no numbers; or integers beyond any float
        return "polygon that is not a list of numbers"
    if not finite:
        return "polygon with a coordinate that is not finite"
    if far:
        return f"polygon with a coordinate beyond {MAX_COORDINATE:.0f} pixels"
    if len(polygon) % 2:
        return "polygon with an odd number of coordinates"
    if len(polygon) < _MIN_NUMBERS:
        return "polygon with fewer than three points"
    return "polygon without area" if _is_flat(polygon) else ""


def _signed_area(polygon: Sequence[float]) -> float:
    xs, ys = polygon[0::2], polygon[1::2]
    forward = sum(map(mul, xs, [*ys[1:], ys[0]]))
    return (forward - sum(map(mul, ys, [*xs[1:], xs[0]]))) / 2


def _is_flat(polygon: Sequence[float]) -> bool:
    """Whether all points lie on one line."""
    x, y = polygon[0], polygon[1]
    if (polygon[2] - x) * (polygon[5] - y) != (polygon[4] - x) * (polygon[3] - y):
        return False  # not even the first three
    points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    points -= points[0]
    far = points[np.abs(points).max(axis=1).argmax()]
    extent = np.abs(far).max()
    distances = np.abs(points[:, 0] * far[1] - points[:, 1] * far[0])
    return bool(extent == 0 or distances.max() <= _COLLINEAR * extent**2)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
