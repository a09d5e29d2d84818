"""Masks as short texts: simplified outlines in coordinates of two characters each.

A coordinate is a whole number of 0 to 4095, 4095 being the longer side of the image, written with
two digits of base 64 (digits as in base64url). Rings stand one after another with a space between.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maskrcnn_lib.evaluation.overlaps import run_lengths
from maskrcnn_lib.structures.rle import decode_rle

_DIGITS = np.frombuffer(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", dtype=np.uint8
)
_LARGEST = 4095
_RELATIVE_STEP = 1 / 450  # of the longer side: what an outline may deviate on a large object
_STEPS_PER_OBJECT = 35  # ... and on a small one, relative to the root of its area
_SMALLEST_STEP = 0.4  # pixels


def outline_text(segmentation: Any, size: tuple[int, int]) -> str:
    """The outline of a mask.

    Args:
        segmentation: polygons, or run lengths in any form.
        size: (height, width) of the image.
    """
    import cv2

    rings = _rings(segmentation, size)
    area = sum(abs(cv2.contourArea(ring)) for ring in rings)
    step = min(max(size) * _RELATIVE_STEP, max(_SMALLEST_STEP, area**0.5 / _STEPS_PER_OBJECT))
    simple = [cv2.approxPolyDP(ring, step, closed=True).reshape(-1, 2) for ring in rings]
    return " ".join(_encode(points, max(size)) for points in simple)


def bounding_box(segmentation: Any, size: tuple[int, int]) -> list[float]:
    """x, y, width and height of a mask."""
    from pycocotools import mask as coder

    return coder.toBbox(run_lengths(segmentation, size)).tolist()


def _rings(segmentation: Any, size: tuple[int, int]) -> list[np.ndarray]:
    """Closed lines, (N, 1, 2) float32 in pixels each."""
    if isinstance(segmentation, list):
        return [
            np.array(ring[: len(ring) // 2 * 2], dtype=np.float32).reshape(-1, 1, 2)
            for ring in segmentation
            if len(ring) >= 2
        ]
    return _traced(run_lengths(segmentation, size))


def _traced(rle: Mapping[str, Any]) -> Sequence[np.ndarray]:
    """The outlines of run lengths, holes included."""
    import cv2
    from pycocotools import mask as coder

    x, y, width, height = (round(side) for side in coder.toBbox(rle).tolist())
    bitmap = decode_rle(rle, tuple(rle["size"]))
    crop = np.ascontiguousarray(bitmap[y : y + height, x : x + width], dtype=np.uint8)
    if not crop.size:
        return []
    lines, _ = cv2.findContours(crop, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))
    return [line.astype(np.float32) + 0.5 for line in lines]  # centres of the pixels


def _encode(points: np.ndarray, longer_side: int) -> str:
    numbers = np.rint(points.reshape(-1) * (_LARGEST / longer_side))
    numbers = np.clip(numbers, 0, _LARGEST).astype(np.int64)
    return _DIGITS[np.stack([numbers >> 6, numbers & 63], axis=1)].tobytes().decode("ascii")
