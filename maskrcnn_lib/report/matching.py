"""Which detection finds which object, image by image, and how all of them overlap.

The matching is COCO's at one overlap: of each class the detections choose in the order of their
scores, each the free object that it overlaps most. So what a detection finds does not depend on
detections of lower score, and holds at every confidence threshold.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from maskrcnn_lib.evaluation.average_precision import Rules
from maskrcnn_lib.evaluation.coco_results import check_results
from maskrcnn_lib.evaluation.overlaps import overlaps

MatchedKind = Literal["bbox", "segm"]

FOUND_FROM = 0.5
"""Intersection over union from which on a detection finds an object."""

_MOST = Rules().most[-1]


@dataclass(frozen=True)
class ImageMatch:
    """Detections and objects of one image, D and G of them.

    Attributes:
        image: COCO's entry.
        found: COCO results, by descending score; at most 100 of a class.
        objects: COCO annotations without crowd regions.
        overlaps: (D, G) float64 intersection over union.
        same_class: (D, G) bool.
        object_of: (D,) int64, which object each detection finds; -1 for none.
        ignored: (D,) bool, detections that find none and lie in a crowd region of their class.
    """

    image: Mapping[str, Any]
    found: Sequence[Mapping[str, Any]]
    objects: Sequence[Mapping[str, Any]]
    overlaps: np.ndarray
    same_class: np.ndarray
    object_of: np.ndarray
    ignored: np.ndarray

    @property
    def is_found(self) -> np.ndarray:
        """Whether each object is found, (G,) bool."""
        found = np.zeros(len(self.objects), dtype=bool)
        found[self.object_of[self.object_of >= 0]] = True
        return found


def match_images(
    content: Mapping[str, Any], results: Sequence[Mapping[str, Any]], kind: MatchedKind
) -> Iterator[ImageMatch]:
    """Matches every image of a data set.

    Args:
        content: the data set: a dict with ``images``, ``annotations`` and ``categories``. Objects
            without what ``kind`` compares are not looked for.
        results: COCO results; those of categories that the data set does not have are left out.
        kind: whether boxes or masks are compared.

    Yields:
        One match per image, in the order of the data set.

    Raises:
        ValueError: a result lacks a key or is of an image that the data set does not have.
    """
    check_results(results, kind, {image["id"] for image in content["images"]})
    known = {category["id"] for category in content["categories"]}
    key = "bbox" if kind == "bbox" else "segmentation"
    found_in = _by_image(r for r in results if r["category_id"] in known)
    objects_in = _by_image(
        a for a in content["annotations"] if a["category_id"] in known and key in a
    )
    for image in content["images"]:
        yield _match(image, found_in[image["id"]], objects_in[image["id"]], kind)


def _by_image(entries: Iterable[Mapping[str, Any]]) -> defaultdict[Any, list[Mapping[str, Any]]]:
    sorted_out = defaultdict(list)
    for entry in entries:
        sorted_out[entry["image_id"]].append(entry)
    return sorted_out


def _match(
    image: Mapping[str, Any],
    found: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    kind: MatchedKind,
) -> ImageMatch:
    found = _best_of_each_class(found)
    objects = [entry for entry in annotations if not entry.get("iscrowd", 0)]
    crowds = [entry for entry in annotations if entry.get("iscrowd", 0)]
    size = image["height"], image["width"]
    shared = overlaps(found, objects, kind, size)
    same_class = _categories(found)[:, None] == _categories(objects)[None]
    object_of = _choose(np.where(same_class, shared, 0.0))
    in_crowd = overlaps(found, crowds, kind, size, crowd=True) >= FOUND_FROM
    in_crowd &= _categories(found)[:, None] == _categories(crowds)[None]
    ignored = in_crowd.any(axis=1) & (object_of < 0)
    return ImageMatch(image, found, objects, shared, same_class, object_of, ignored)


def _best_of_each_class(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    kept, counts = [], defaultdict(int)
    for entry in sorted(found, key=lambda entry: -entry["score"]):
        counts[entry["category_id"]] += 1
        if counts[entry["category_id"]] <= _MOST:
            kept.append(entry)
    return kept


def _choose(overlaps: np.ndarray) -> np.ndarray:
    """Which column each row gets, the first row first; -1 for none."""
    chosen = np.full(len(overlaps), -1)
    if not overlaps.size:
        return chosen
    free = overlaps.copy()
    # most rows have nothing to choose from
    for row in np.flatnonzero((overlaps >= FOUND_FROM).any(axis=1)).tolist():
        best = int(free[row].argmax())
        if free[row, best] >= FOUND_FROM:
            chosen[row] = best
            free[:, best] = 0.0
    return chosen


def _categories(entries: Sequence[Mapping[str, Any]]) -> np.ndarray:
    return np.array([entry["category_id"] for entry in entries], dtype=np.int64)
