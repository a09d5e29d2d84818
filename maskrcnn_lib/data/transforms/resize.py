"""How large an image becomes before the network sees it, in each toolbox's rounding."""

import math
from typing import Literal

OutputSizeRule = Literal["truncate_long", "floor", "round"]

# A strip of 10000 x 1 pixels, brought to a short side of 320, would take 12 GB. Images that are not
# enlarged are never refused.
_MOST_ENLARGED_PIXELS = 1 << 26


def resized_size(
    height: int, width: int, *, min_size: int, max_size: int, rule: OutputSizeRule
) -> tuple[int, int]:
    """Size that brings the short side to ``min_size``, or the long side to ``max_size`` if shorter.

    Args:
        height, width: of the image, in pixels.
        min_size: wanted short side.
        max_size: largest long side; 0 for no limit.
        rule: rounding, see :class:`maskrcnn_lib.config.dialects.Dialect`.

    Returns:
        (height, width), each at least 1.

    Raises:
        ValueError: a long, thin image would be enlarged to more than 67 million pixels.
    """
    size = _resized_size(height, width, min_size, max_size, rule)
    if size[0] * size[1] > max(_MOST_ENLARGED_PIXELS, height * width):
        raise ValueError(
            f"an image of {width} x {height} pixels is too long and thin: a short side of "
            f"{min_size} would make it {size[1]} x {size[0]}. Crop it, or limit the long side with "
            "INPUT.MAX_SIZE_TEST or MAX_SIZE_TRAIN"
        )
    return size


def _resized_size(
    height: int, width: int, min_size: int, max_size: int, rule: OutputSizeRule
) -> tuple[int, int]:
    if rule == "truncate_long":
        return _truncate_long(height, width, min_size, max_size)
    short, long = min(height, width), max(height, width)
    scale = min_size / short
    if max_size and scale * long > max_size:
        scale = max_size / long
    if rule == "round":
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
    return max(1, math.floor(height * scale)), max(1, math.floor(width * scale))


def _truncate_long(height: int, width: int, min_size: int, max_size: int) -> tuple[int, int]:
    """Short side rounded only where the long side's limit decides; long side truncated."""
    short, long = min(height, width), max(height, width)
    if max_size and long / short * min_size > max_size:
        min_size = max(1, round(max_size * short / long))
    if short == min_size:
        return height, width
    if width < height:
        return int(min_size * height / width), min_size
    return min_size, int(min_size * width / height)
