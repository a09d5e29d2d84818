"""Colours: a fixed one for every class, or such that tell neighbouring objects apart."""

import colorsys

import numpy as np

# Steps of the golden ratio around the colour circle never fall close to earlier ones.
_GOLDEN_RATIO = 0.6180339887498949

# Distinct also for colour-blind eyes: Okabe and Ito, "Color Universal Design" (2008), less black,
# which is lost on photos; those that are seen best come first.
_DISTINCT = np.array(
    [
        (86, 180, 233),  # sky blue
        (230, 159, 0),  # orange
        (240, 228, 66),  # yellow
        (204, 121, 167),  # reddish purple
        (0, 158, 115),  # bluish green
        (0, 114, 178),  # blue
        (213, 94, 0),  # vermilion
    ],
    dtype=np.uint8,
)


def class_colors(labels: np.ndarray) -> np.ndarray:
    """Colours that depend on the class only, the same in every picture.

    Args:
        labels: (N,) integers.

    Returns:
        (N, 3) uint8 RGB.
    """
    return np.array([_class_color(int(label)) for label in labels], dtype=np.uint8).reshape(-1, 3)


def instance_colors(boxes: np.ndarray, *, without_red: bool = False) -> np.ndarray:
    """Colours that differ between objects near to each other, whatever their classes.

    Args:
        boxes: (N, 4) xyxy.
        without_red: leave out the colour that is taken for red, where red means something.

    Returns:
        (N, 3) uint8 RGB: the first seven, or six, all differ; then each object has a colour of
        which the others are few and far away.
    """
    boxes = boxes.astype(np.float64)
    crowding = np.zeros((len(boxes), len(_DISTINCT) - without_red))  # by objects that have a colour
    chosen = np.zeros(len(boxes), dtype=np.int64)
    for i, box in enumerate(boxes):
        chosen[i] = crowding[i].argmin()
        crowding[:, chosen[i]] += _nearness(boxes, box)
    return _DISTINCT[chosen]


def _nearness(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(N,) 1 for boxes that touch one, and less the more of its sides lie between."""
    gaps = np.maximum(boxes[:, :2] - box[2:], box[:2] - boxes[:, 2:]).clip(min=0)
    side = max(1.0, float((box[2:] - box[:2]).mean()))
    return 1 / (1 + np.hypot(*gaps.T) / side)


def _class_color(label: int) -> tuple[int, int, int]:
    hue = (0.58 + label * _GOLDEN_RATIO) % 1.0
    saturation, value = ((0.85, 1.0), (0.65, 0.95), (0.95, 0.85))[label % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
