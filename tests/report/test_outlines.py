"""Masks as short texts."""

import cv2
import numpy as np
import pytest

from maskrcnn_lib.evaluation.overlaps import encode
from maskrcnn_lib.report.outlines import outline_text

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _drawn(text, size):
    """The bitmap that the page would draw."""
    rings = []
    for ring in text.split(" "):
        numbers = [
            64 * DIGITS.index(a) + DIGITS.index(b)
            for a, b in zip(ring[::2], ring[1::2], strict=True)
        ]
        points = np.array(numbers).reshape(-1, 2) * max(size) / 4095
        rings.append(np.rint(points * 16).astype(np.int32))
    bitmap = np.zeros(size, np.uint8)
    cv2.fillPoly(bitmap, rings, 1, shift=4)  # even-odd, as the page's paths
    return bitmap.astype(bool)


def _iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("radius", [12, 60, 200])
def test_outline_of_run_lengths_covers_the_mask(radius):
    size = (480, 640)
    y, x = np.mgrid[: size[0], : size[1]]
    mask = (x - 300) ** 2 + 1.5 * (y - 230) ** 2 < radius**2
    text = outline_text(encode(mask), size)
    assert _iou(_drawn(text, size), mask) > 0.9
    assert len(text) < 300


def test_outline_of_polygons_is_theirs():
    size = (100, 200)
    square = [20.0, 30.0, 120.0, 30.0, 120.0, 90.0, 20.0, 90.0]
    mask = np.zeros(size, bool)
    mask[30:90, 20:120] = True
    text = outline_text([square], size)
    assert len(text) == 16  # four corners
    assert _iou(_drawn(text, size), mask) > 0.97


def test_holes_and_parts_are_rings_of_their_own():
    size = (120, 120)
    mask = np.zeros(size, bool)
    mask[10:70, 10:70] = True
    mask[30:50, 30:50] = False
    mask[90:110, 90:110] = True
    text = outline_text(encode(mask), size)
    assert text.count(" ") == 2
    # lines go through the middles of the pixels at the edge: half a pixel is lost on each side
    assert _iou(_drawn(text, size), mask) > 0.85


@pytest.mark.parametrize("segmentation", [[], encode(np.zeros((10, 10)))])
def test_empty_masks_have_no_outline(segmentation):
    assert outline_text(segmentation, (10, 10)) == ""
