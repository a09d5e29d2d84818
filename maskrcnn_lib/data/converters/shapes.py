"""Round shapes of annotation tools as polygons."""

import math

_POINTS = 64  # of a circle; its area is 0.2 % below the true one


def rectangle(x1: float, y1: float, x2: float, y2: float) -> list[float]:
    """The flat polygon of a rectangle given by two opposite corners."""
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def ellipse(
    centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0
) -> list[float]:
    """The flat polygon of an ellipse.

    Args:
        centre: x, y.
        radii: along x and along y, before it is turned.
        angle: by which it is turned, in radians, from x towards y.
    """
    cos, sin = math.cos(angle), math.sin(angle)
    polygon = []
    for step in range(_POINTS):
        around = 2 * math.pi * step / _POINTS
        x, y = radii[0] * math.cos(around), radii[1] * math.sin(around)
        polygon += [centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos]
    return polygon
