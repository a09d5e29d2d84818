"""A fixed, well-separated colour for every class."""

import colorsys

import numpy as np

# Steps of the golden ratio around the colour circle never fall close to earlier ones.
_GOLDEN_RATIO = 0.6180339887498949


def class_colors(labels: np.ndarray) -> np.ndarray:
    """Colours that depend on the class only, the same in every picture.

    Args:
        labels: (N,) integers.

    Returns:
        (N, 3) uint8 RGB.
    """
    return np.array([_class_color(int(label)) for label in labels], dtype=np.uint8).reshape(-1, 3)


def _class_color(label: int) -> tuple[int, int, int]:
    hue = (0.58 + label * _GOLDEN_RATIO) % 1.0
    saturation, value = ((0.85, 1.0), (0.65, 0.95), (0.95, 0.85))[label % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
