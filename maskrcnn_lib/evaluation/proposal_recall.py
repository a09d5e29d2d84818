"""How many objects a set of proposals covers: average recall (Hosang et al., arXiv:1502.05082).

Proposals and objects are paired greedily by overlap, best pair first, as Detectron,
maskrcnn-benchmark and detectron2 do it. Other than theirs, the objects of an image without any
proposal count as missed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maskrcnn_lib.evaluation.overlaps import overlaps
from maskrcnn_lib.evaluation.scores import IOU_THRESHOLDS, Scores

LIMITS = (100, 1000)  # proposals of an image
# Least and greatest area of an object in square pixels, both included.
AREAS = {"": (0.0, 1e10), "s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, 1e10)}

# Per metric ("ARs@100") the overlap of each object with its proposal.
Coverage = dict[str, list[float]]


def cover_objects(
    boxes: Sequence[Sequence[float]],
    objects: Sequence[Mapping[str, Any]],
    *,
    limits: Sequence[int] = LIMITS,
) -> Coverage:
    """How well the proposals of one image cover its objects.

    Args:
        boxes: proposals x, y, width, height, best first, in pixels of the original image.
        objects: COCO annotations of the image: ``bbox``, ``area`` (of the mask where there is
            one), ``iscrowd``; crowd regions do not count.
        limits: numbers of proposals to look at.

    Returns:
        Per metric one IoU per object; plain lists, so that ranks can exchange them.
    """
    objects = [entry for entry in objects if not entry.get("iscrowd", 0)]
    areas = np.array([entry["area"] for entry in objects], np.float64)
    iou = overlaps([{"bbox": box} for box in boxes], objects, "bbox", (0, 0))
    coverage = {}
    for limit in limits:
        for name, (least, greatest) in AREAS.items():
            chosen = (least <= areas) & (areas <= greatest)
            coverage[f"AR{name}@{limit}"] = _pair(iou[:limit, chosen])
    return coverage


def evaluate_box_proposals(coverages: Sequence[Mapping[str, Sequence[float]]]) -> Scores:
    """Average recall over IoUs of 0.5 to 0.95, of all images.

    Args:
        coverages: of each image, from :func:`cover_objects`.

    Returns:
        ``AR@100``, ``ARs@100``, ``ARm@100``, ``ARl@100`` and the same at the other limits.
    """
    names = list(dict.fromkeys(name for coverage in coverages for name in coverage))
    metrics = {}
    for name in names:
        values = [np.asarray(coverage[name], np.float64) for coverage in coverages]
        iou = np.concatenate(values)
        recalls = [float((iou >= threshold).mean()) for threshold in IOU_THRESHOLDS if iou.size]
        metrics[name] = float(np.mean(recalls)) if recalls else -1.0
    return Scores("box_proposal", metrics, {}, "Detectron's rules")


def _pair(iou: np.ndarray) -> list[float]:
    """The overlap of each object with its proposal; 0 for objects that are left over.

    Args:
        iou: (proposals, objects).
    """
    iou, paired = iou.copy(), []
    for _ in range(min(iou.shape)):
        proposal, index = np.unravel_index(iou.argmax(), iou.shape)
        paired.append(float(iou[proposal, index]))
        iou[proposal], iou[:, index] = -1.0, -1.0
    return paired + [0.0] * (iou.shape[1] - len(paired))
