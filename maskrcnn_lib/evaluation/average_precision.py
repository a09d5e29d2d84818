"""COCO's average precision on arrays: every step is one operator over all images at once.

Detections and objects are sorted into groups, one for each category and image. The operators
(csrc/cpu/overlaps.cpp, csrc/cpu/average_precision.cpp) compare the pairs of each group, match
detections with objects at all thresholds and ranges of areas, and turn the outcome into precision
over recall. They follow the COCO API (cocoeval.py) in every rule, down to the order of ties and of
sums, so that results are the same to the last bit; with one exception: there, an object whose
annotation has the id 0 counts as never found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from maskrcnn_lib.evaluation.coco_arrays import (
    DatasetIndex,
    Entries,
    read_detections,
    read_objects,
)
from maskrcnn_lib.structures.rle import read_runs


@dataclass(frozen=True)
class Rules:
    """How detections are judged; the defaults are COCO's.

    Attributes:
        thresholds: intersection over union from which on a detection finds an object.
        recalls: at which precision is sampled, ascending.
        areas: smallest and largest area in pixels of the objects that count: all, small, medium,
            large.
        most: detections per image and category, the best of which are judged, ascending.
    """

    thresholds: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
    recalls: tuple[float, ...] = tuple(np.linspace(0, 1, 101).tolist())
    areas: tuple[tuple[float, float], ...] = (
        (0, 1e5**2),
        (0, 32**2),
        (32**2, 96**2),
        (96**2, 1e5**2),
    )
    most: tuple[int, ...] = (1, 10, 100)


class Curves(NamedTuple):
    """What COCO's numbers are averages of; -1 where there is no object to find.

    Attributes:
        precision: (thresholds, recalls, categories, areas, most) float64, categories in the order
            of their ids.
        recall: (thresholds, categories, areas, most) float64.
    """

    precision: np.ndarray
    recall: np.ndarray


def precision_curves(
    dataset: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    iou_type: str,
    *,
    rules: Rules | None = None,
) -> Curves:
    """Compares results with a data set.

    Args:
        dataset, results, iou_type: see :func:`maskrcnn_lib.evaluation.coco_eval.evaluate_coco`.

    Raises:
        ValueError: an entry lacks a key, is of an image that the data set does not have, or its
            mask is none of that image.
    """
    rules = rules or Rules()
    index = DatasetIndex.of(dataset, with_sizes=iou_type == "segm")
    found = read_detections(results, index, iou_type)
    truth = read_objects(dataset["annotations"], index, iou_type)
    groups = _Groups.of(found, truth, index, rules.most[-1])
    overlaps, areas = _overlaps(groups, index)
    ranges = np.array(rules.areas, dtype=np.float64)
    states = torch.ops.maskrcnn.match_detections(
        overlaps,
        areas,
        torch.from_numpy(groups.truth.area),
        torch.from_numpy(groups.truth.crowd),
        *groups.offsets,
        torch.from_numpy(ranges),
        torch.tensor(rules.thresholds, dtype=torch.float64),
    )
    found = groups.found
    by_score = np.lexsort((-found.score, found.category))
    precision, recall = torch.ops.maskrcnn.precision_recall(
        states,
        torch.from_numpy(by_score),
        torch.from_numpy(groups.ranks),
        _offsets(np.bincount(found.category, minlength=len(index.categories))),
        torch.from_numpy(_count_objects(truth, ranges, len(index.categories))),
        torch.tensor(rules.recalls, dtype=torch.float64),
        torch.tensor(rules.most),
    )
    return Curves(precision.numpy(), recall.numpy())


def summarize(curves: Curves) -> list[float]:
    """COCO's twelve numbers from curves by COCO's rules: see ``coco_eval.METRICS``."""
    precision, recall = curves
    at_50, at_75 = (int(np.searchsorted(Rules().thresholds, t)) for t in (0.5, 0.75))
    parts = [precision[..., 0, -1], precision[at_50, ..., 0, -1], precision[at_75, ..., 0, -1]]
    parts += [precision[..., area, -1] for area in (1, 2, 3)]
    parts += [recall[..., 0, most] for most in (0, 1, 2)]
    parts += [recall[..., area, -1] for area in (1, 2, 3)]
    return [mean_of_measured(part) for part in parts]


def mean_of_measured(values: np.ndarray) -> float:
    """Mean without the -1 of categories that have no object; -1 where there is none at all."""
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0


@dataclass(frozen=True)
class _Groups:
    """Detections and objects, sorted by category and image.

    Attributes:
        found: detections; within a group by descending score, ties in the order given.
        truth: objects; within a group in the order given.
        images: (C,) int64, image of each group.
        ranks: (D,) int64, place of each detection in its group.
        offsets: (C + 1,) int64 each, where the groups' detections and objects begin.
    """

    found: Entries
    truth: Entries
    images: np.ndarray
    ranks: np.ndarray
    offsets: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, found: Entries, truth: Entries, index: DatasetIndex, most: int) -> "_Groups":
        """Groups of at most ``most`` detections."""
        images = max(len(index.images), 1)
        found_keys = found.category * images + found.image
        truth_keys = truth.category * images + truth.image
        order = np.lexsort((-found.score, found_keys))
        keys = found_keys[order]
        ranks = np.arange(len(keys)) - np.searchsorted(keys, keys)
        order, keys, ranks = order[ranks < most], keys[ranks < most], ranks[ranks < most]
        truth_order = np.argsort(truth_keys, kind="stable")
        groups, counts = np.unique(np.concatenate([keys, truth_keys]), return_counts=True)
        found_counts = np.diff(np.searchsorted(keys, groups), append=len(keys))
        return cls(
            found=found.take(order),
            truth=truth.take(truth_order),
            images=groups % images,
            ranks=ranks,
            offsets=(_offsets(found_counts), _offsets(counts - found_counts)),
        )


def _offsets(counts: np.ndarray) -> Tensor:
    return torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def _overlaps(groups: _Groups, index: DatasetIndex) -> tuple[Tensor, Tensor]:
    """Overlaps of all pairs, and areas of the detections."""
    found, truth = groups.found, groups.truth
    crowd = torch.from_numpy(truth.crowd)
    if found.boxes is not None and truth.boxes is not None:
        boxes = torch.from_numpy(found.boxes), torch.from_numpy(truth.boxes)
        overlaps = torch.ops.maskrcnn.box_overlaps(*boxes, crowd, *groups.offsets)
        return overlaps, torch.from_numpy(found.area)
    pixels = torch.from_numpy(index.sizes.prod(axis=1)[groups.images])
    texts = [
        torch.from_numpy(part)
        for masks in (found.masks, truth.masks)
        for part in (masks.characters, masks.spans)
    ]
    try:
        overlaps, areas = torch.ops.maskrcnn.mask_overlaps(*texts, crowd, pixels, *groups.offsets)
    except RuntimeError:  # the operator looks much faster, but does not say which one it was
        for entries in (found, truth):
            for i, image in enumerate(entries.image):
                size = index.sizes[image].tolist()
                read_runs({"size": size, "counts": entries.masks.text(i)}, tuple(size))
        raise
    return overlaps, areas if found.area is None else torch.from_numpy(found.area)


def _count_objects(truth: Entries, ranges: np.ndarray, categories: int) -> np.ndarray:
    """Objects to be found, (categories * areas,) int64."""
    counts = [
        np.bincount(
            truth.category[~truth.crowd & (truth.area >= low) & (truth.area <= high)],
            minlength=categories,
        )
        for low, high in ranges
    ]
    return np.stack(counts, axis=1).astype(np.int64).reshape(-1)
