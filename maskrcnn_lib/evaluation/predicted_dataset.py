"""Predictions as a COCO data set: a start for annotation tools, and something to learn from.

COCO's results name images and categories by number alone; a data set says what they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maskrcnn_lib.structures.keypoint import Keypoints
from maskrcnn_lib.structures.polygons import trace
from maskrcnn_lib.structures.rle import decode_rle, read_runs

# How far an outline to edit may lie from the mask: stairs of pixels become straight lines.
_STEP = 1.0  # pixels
_RELATIVE_STEP = 0.1  # of the root of the area, for small objects
_MIN_POINTS = 3


def predicted_dataset(
    images: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
    *,
    names: Mapping[int, str],
    keypoints: Keypoints | None = None,
    polygons: bool = False,
) -> dict[str, Any]:
    """The content of a COCO annotation file.

    Args:
        images: entries with ``id``, ``file_name``, ``width`` and ``height``.
        results: COCO results on these images, as :meth:`BoxList.to_coco` gives them; they stay as
            they are.
        names: category id -> name, of all categories.
        keypoints: any of the predicted ones; the categories get their names and lines.
        polygons: masks as outlines to edit instead of the exact run lengths. They lie at most a
            pixel beside the mask, and holes are joined to the outline by lines. What has no pixel
            or no mask gets an empty list, as annotation tools write it for boxes.

    Returns:
        ``images``, ``annotations`` (the results with ``id``, ``area`` in square pixels, ``iscrowd``
        and with key points ``num_keypoints``; ``score`` stays) and ``categories``.
    """
    skeleton = {} if keypoints is None else _coco_skeleton(keypoints)
    annotations = []
    for number, result in enumerate(results, start=1):
        annotation = {**as_annotation(result), "id": number}
        if polygons:
            rle = result.get("segmentation")
            annotation["segmentation"] = outlines_to_edit(rle) if rle else []
        annotations.append(annotation)
    categories = [{"id": key, "name": name, **skeleton} for key, name in names.items()]
    return {"images": list(images), "annotations": annotations, "categories": categories}


def as_annotation(result: Mapping[str, Any]) -> dict[str, Any]:
    """A COCO result with what annotations have besides: ``iscrowd``, ``area``, ``num_keypoints``.

    The area is that of the mask, or of the box where there is no mask, in square pixels.
    """
    width, height = result["bbox"][2:]
    annotation = {**result, "iscrowd": 0, "area": width * height}
    if "segmentation" in result:
        rle = result["segmentation"]
        annotation["area"] = float(read_runs(rle, tuple(rle["size"]))[1::2].sum())
    if "keypoints" in result:
        annotation["num_keypoints"] = sum(value > 0 for value in result["keypoints"][2::3])
    return annotation


def outlines_to_edit(rle: Mapping[str, Any]) -> list[list[float]]:
    """Outlines of a mask with few corners, holes included.

    Args:
        rle: COCO's run lengths, see :func:`maskrcnn_lib.structures.rle.decode_rle`.

    Returns:
        Flat x1, y1, x2, y2, ... in pixels; none for an empty mask.
    """
    import cv2

    height, width = rle["size"]
    bitmap = decode_rle(rle, (height, width))
    step = min(_STEP, _RELATIVE_STEP * float(bitmap.sum()) ** 0.5)
    outlines = []
    for exact in trace(bitmap):
        simple = cv2.approxPolyDP(exact.astype(np.float32), step, closed=True).reshape(-1, 2)
        kept = simple if len(simple) >= _MIN_POINTS else exact
        outlines.append(kept.reshape(-1).tolist())
    return outlines


def _coco_skeleton(keypoints: Keypoints) -> dict[str, Any]:
    """What a COCO category says of its keypoints; COCO counts them from 1 in its lines."""
    count = keypoints.keypoints.shape[1]
    return {
        "keypoints": list(keypoints.NAMES) or [f"point {i}" for i in range(1, count + 1)],
        "skeleton": [[start + 1, end + 1] for start, end in keypoints.CONNECTIONS],
    }
