"""Overlaps of boxes and of run-length masks, without drawing any bitmap."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np


def overlaps(
    found: Sequence[Mapping[str, Any]],
    objects: Sequence[Mapping[str, Any]],
    kind: Literal["bbox", "segm"],
    size: tuple[int, int],
    *,
    crowd: bool = False,
) -> np.ndarray:
    """Intersection over union of results with objects, all of one image.

    Args:
        found, objects: with ``bbox`` (x, y, width, height) or ``segmentation``, by ``kind``.
        size: (height, width) of the image.
        crowd: the objects are crowd regions: intersection over the result's own area instead.

    Returns:
        (len(found), len(objects)) float64.
    """
    from pycocotools import mask as coder

    if not found or not objects:
        return np.zeros((len(found), len(objects)))
    flags = [int(crowd)] * len(objects)
    if kind == "bbox":
        boxes = (np.array([e["bbox"] for e in part], np.float64) for part in (found, objects))
        return np.asarray(coder.iou(*boxes, flags))
    codes = ([run_lengths(e["segmentation"], size) for e in part] for part in (found, objects))
    return np.asarray(coder.iou(*codes, flags))


def intersections(masks: Sequence[Any], regions: Sequence[Any]) -> np.ndarray:
    """Pixels that run-length masks share with each region: (len(masks), len(regions)) int64."""
    from pycocotools import mask as coder

    if not masks or not regions:
        return np.zeros((len(masks), len(regions)), np.int64)
    # of a crowd region pycocotools tells the share of the mask that lies in it
    shares = np.asarray(coder.iou(list(masks), list(regions), [1] * len(regions)))
    return np.rint(shares * mask_areas(masks)[:, None]).astype(np.int64)


def mask_areas(masks: Sequence[Any]) -> np.ndarray:
    """Pixels of each run-length mask: (len(masks),) int64."""
    from pycocotools import mask as coder

    return coder.area(list(masks)).astype(np.int64) if masks else np.zeros(0, np.int64)


def encode(bitmap: np.ndarray) -> dict[str, Any]:
    """Compressed run lengths of an (H, W) bitmap; fastest where it lies in memory by columns."""
    from pycocotools import mask as coder

    return coder.encode(np.asfortranarray(bitmap, dtype=np.uint8))


def run_lengths(segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    """Compressed run lengths of polygons, or of run lengths in any form.

    Args:
        size: (height, width) of the image.
    """
    from pycocotools import mask as coder

    if isinstance(segmentation, list):
        return coder.merge(coder.frPyObjects(segmentation, *size))
    if isinstance(segmentation["counts"], list):
        return coder.frPyObjects(segmentation, *size)
    return segmentation
