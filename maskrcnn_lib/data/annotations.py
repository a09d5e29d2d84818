"""Validation of a COCO annotation file: what can be repaired is, what cannot be used is dropped.

Everything that is changed is reported. What makes the whole file unusable (an image without a name,
two images of one id) is refused with one error that lists it.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from maskrcnn_lib.data.annotation_masks import CheckedMask, check_segmentation
from maskrcnn_lib.data.annotation_report import Action, AnnotationReport, brief, is_text
from maskrcnn_lib.data.image_entries import check_images, whole_number
from maskrcnn_lib.structures.keypoint import Skeleton

MIN_SIDE = 1 / 64  # pixels; a smaller box vanishes in float32
_TOLERATED = 1.0  # pixels; boxes and points so little outside the image are not reported
_FITTING_IOU = 0.5  # of an object's box and the box around its mask
_NUMBERS_PER_KEYPOINT = 3
_HUGE = 1e12  # beyond all coordinates and areas


class ValidContent(NamedTuple):
    """Annotations that can be relied on.

    Attributes:
        images: entries with int ``id``, ``file_name`` below the image directory, ``width``,
            ``height``; by rising id.
        categories: entries with int ``id`` and ``name``; by rising id.
        annotations: per image id its objects, each with int ``id``, ``image_id``, ``category_id``,
            ``iscrowd`` 0 or 1, ``bbox`` (x, y, width, height, both above 0, inside the image to
            1 pixel), ``area``, and where they are known ``segmentation`` and ``keypoints``
            (labelled ones inside the image to 1 pixel).
        keypoint_count: keypoints per object; 0 for none.
        skeleton: names and connections of the keypoints; None where no category has as many.
    """

    images: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    annotations: dict[int, list[dict[str, Any]]]
    keypoint_count: int
    skeleton: Skeleton | None


def validate_coco(
    content: Any, report: AnnotationReport, root: str | Path | None = None
) -> ValidContent:
    """Checks and repairs the content of a COCO annotation file.

    Args:
        content: as ``json.load`` gives it; it is not changed. It may lack ``annotations``: COCO's
            files of images to be scored by its server do.
        report: gets a finding for everything that is not as it should be.
        root: directory of the images; sizes that the file does not state are read there.

    Raises:
        AnnotationError: (a ValueError) the file cannot be used.
    """
    needed = ("images", "categories", "annotations")
    if not isinstance(content, Mapping):
        report.add("refused", "not a COCO annotation file", "the file", brief(content))
        report.raise_if_refused()
    if "annotations" not in content:  # as in the files of COCO's test-dev
        content = {**content, "annotations": []}
        report.add("noted", "no annotations", "the file", "nothing to learn from, nothing to score")
    for key in needed:
        if not isinstance(content.get(key), list):
            kind = f"no list of {key}, so not a COCO annotation file"
            report.add("refused", kind, "the file", f"{key}: {brief(content.get(key))}")
    report.raise_if_refused()
    images = check_images(content["images"], report, None if root is None else Path(root))
    categories = _check_categories(content["categories"], report)
    report.raise_if_refused()
    checker = _AnnotationChecker(images, categories, report)
    annotations: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in checker.check_all(content["annotations"]):
        annotations[annotation["image_id"]].append(annotation)
    return ValidContent(
        images=[images[i] for i in sorted(images)],
        categories=[categories[i] for i in sorted(categories)],
        annotations=dict(annotations),
        keypoint_count=checker.keypoint_count,
        skeleton=_skeleton(categories.values(), checker.keypoint_count),
    )


def _check_categories(entries: list[Any], report: AnnotationReport) -> dict[int, dict[str, Any]]:
    """id -> entry."""
    found: dict[int, dict[str, Any]] = {}
    names: set[str] = set()
    alike: set[str] = set()
    for index, entry in enumerate(entries):
        where = f"category entry {index}"
        category_id = whole_number(entry.get("id")) if isinstance(entry, dict) else None
        if category_id is None:
            report.add("refused", "category without a whole number as id", where, brief(entry))
            continue
        where = f"category {category_id}"
        if category_id in found:
            report.add("refused", "category id used twice", where, brief(entry.get("name")))
            continue
        entry = {**entry, "id": category_id}
        name = entry.get("name")
        if isinstance(name, int | float):
            entry["name"] = name = str(name)
            report.add("repaired", "category name that was a number", where, name)
        if not is_text(name):
            entry["name"] = f"class_{category_id}"
            report.add("repaired", "category without a name", where, brief(name))
        if entry["name"] in names:
            report.add("noted", "category name used twice", where, brief(name))
        elif _loosely(entry["name"]) in alike:
            kind = "category name like another one but for its case or spaces"
            report.add("noted", kind, where, brief(name))
        names.add(entry["name"])
        alike.add(_loosely(entry["name"]))
        points = entry.get("keypoints", [])
        if not isinstance(points, list) or not all(map(is_text, points)):
            report.add("dropped", "keypoint names that are not a list", where, brief(points))
            del entry["keypoints"]
        lines = entry.get("skeleton", [])
        if not _joins_points(lines, len(entry.get("keypoints", []))):
            report.add("dropped", "skeleton that does not join keypoints", where, brief(lines))
            del entry["skeleton"]
        found[category_id] = entry
    if not entries:
        report.add("refused", "no category at all", "the file")
    return found


def _loosely(name: str) -> str:
    """What names that mean the same have in common."""
    return "".join(name.split()).casefold()


def _joins_points(lines: Any, count: int) -> bool:
    """Whether these are pairs of keypoints, counted from 1 as COCO does."""
    return isinstance(lines, list) and all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(1 <= (whole_number(end) or 0) <= count for end in pair)
        for pair in lines
    )


def _skeleton(categories: Iterable[Mapping[str, Any]], count: int) -> Skeleton | None:
    """That of the first category with so many keypoints."""
    for category in categories:
        names = category.get("keypoints", [])
        if names and len(names) == count:
            lines = category.get("skeleton", [])
            return Skeleton(tuple(names), tuple((int(a) - 1, int(b) - 1) for a, b in lines))
    return None


class _AnnotationChecker:
    """Checks the annotations of a file one after another."""

    def __init__(
        self,
        images: Mapping[int, dict[str, Any]],
        categories: Mapping[int, dict[str, Any]],
        report: AnnotationReport,
    ) -> None:
        self.sizes = {i: (image["width"], image["height"]) for i, image in images.items()}
        self.categories = categories
        self.report = report
        self.where = ""
        counts = (len(category.get("keypoints", [])) for category in categories.values())
        self.keypoint_count = max(counts, default=0)

    def add(self, action: Action, kind: str, detail: str) -> None:
        """Reports a finding on the annotation at hand."""
        self.report.add(action, kind, self.where, detail)

    def check_all(self, entries: list[Any]) -> Iterator[dict[str, Any]]:
        """The usable annotations, repaired."""
        seen: dict[int, Any] = {}
        ids = (whole_number(e.get("id")) for e in entries if isinstance(e, dict))
        unused = max((i for i in ids if i is not None and i > 0), default=0)
        for index, entry in enumerate(entries):
            given = entry.get("id") if isinstance(entry, dict) else None
            annotation_id = whole_number(given)
            name = f"entry {index}" if annotation_id is None else str(annotation_id)
            self.where = f"annotation {name}"
            if annotation_id in seen and entry == seen[annotation_id]:
                self.add("dropped", "annotation listed twice", "")
                continue
            annotation = self._check(entry)
            if annotation is None:
                continue
            # pycocotools takes id 0 for "no match"
            if annotation_id is None or annotation_id == 0 or annotation_id in seen:
                unused += 1
                annotation_id = unused
                self.add("repaired", "annotation without an id of its own above 0", brief(given))
            seen[annotation_id] = entry
            yield {**annotation, "id": annotation_id}

    def _check(self, entry: Any) -> dict[str, Any] | None:
        if not isinstance(entry, dict):
            self.add("dropped", "annotation that is not an object", brief(entry))
            return None
        image_id, category_id = (whole_number(entry.get(k)) for k in ("image_id", "category_id"))
        if image_id not in self.sizes:
            detail = brief(entry.get("image_id"))
            self.add("dropped", "annotation of an image that the file does not list", detail)
            return None
        if category_id not in self.categories:
            detail = brief(entry.get("category_id"))
            self.add("dropped", "annotation of a category that the file does not list", detail)
            return None
        given = entry.get("iscrowd")
        is_crowd = 0 if given is None else int(given) if given in (0, 1) else whole_number(given)
        if is_crowd not in (0, 1):
            self.add("dropped", "iscrowd that is neither 0 nor 1", brief(given))
            return None
        result = {**entry, "image_id": image_id, "category_id": category_id}
        result["iscrowd"] = is_crowd
        size = self.sizes[image_id]
        mask = check_segmentation(result.pop("segmentation", None), size, self.add)
        box = self._check_box(entry.get("bbox"), mask, size)
        if box is None:
            return None
        result["bbox"] = box
        if mask is not None:
            result["segmentation"] = mask.segmentation
            if not is_crowd and _iou(box, mask.box) < _FITTING_IOU:
                kind = "box that does not fit its mask (it has to be x, y, width, height)"
                self.add("noted", kind, f"{brief(box)}, mask {brief(list(mask.box))}")
        self._check_area(result, mask)
        self._check_keypoints(result)
        return result

    def _check_box(
        self, box: Any, mask: CheckedMask | None, size: tuple[int, int]
    ) -> list[float] | None:
        """The box as it is, clipped, or from the mask; None where nothing is left."""
        if not _are_numbers(box, 4) or box[2] < MIN_SIDE or box[3] < MIN_SIDE:
            if mask is None:
                self.add(
                    "dropped", "object without a box of four numbers and some area", brief(box)
                )
                return None
            self.add("repaired", "box taken from the mask", brief(box))
            box = list(mask.box)
        x, y, width, height = box
        x1, y1 = max(x, 0), max(y, 0)
        x2, y2 = min(x + width, size[0]), min(y + height, size[1])
        if x2 - x1 < MIN_SIDE or y2 - y1 < MIN_SIDE:
            self.add("dropped", "object whose box lies outside the image", brief(box))
            return None
        if x + width <= 1 and y + height <= 1:
            kind = "box within the first pixel (are its numbers relative? COCO counts pixels)"
            self.add("noted", kind, brief(box))
        out = max(-x, -y, x + width - size[0], y + height - size[1])
        if out <= _TOLERATED:
            return box
        self.add("repaired", "box clipped to the image", f"{brief(box)}, image {size}")
        return [x1, y1, x2 - x1, y2 - y1]

    def _check_area(self, annotation: dict[str, Any], mask: CheckedMask | None) -> None:
        area = annotation.get("area")
        if _are_numbers([area], 1) and area > 0:
            return
        # the halves of a figure of eight cancel
        computed = mask.area() if mask else 0
        annotation["area"] = computed or annotation["bbox"][2] * annotation["bbox"][3]
        if area is not None:  # a file may leave it out
            self.add("repaired", "area computed", brief(area))

    def _check_keypoints(self, annotation: dict[str, Any]) -> None:
        points = annotation.pop("keypoints", None)
        stated = annotation.pop("num_keypoints", None)
        if points is None:
            return
        if not _are_numbers(points) or not points or len(points) % _NUMBERS_PER_KEYPOINT:
            self.add("dropped", "keypoints that are not x, y, visibility", brief(points))
            return
        if not set(points[2::3]) <= {0, 1, 2}:
            self.add("dropped", "keypoints whose visibility is not 0, 1 or 2", brief(points))
            return
        count = len(points) // _NUMBERS_PER_KEYPOINT
        self.keypoint_count = self.keypoint_count or count
        if count != self.keypoint_count:
            kind = "keypoints of another number than the others have"
            self.add("dropped", kind, f"{count} instead of {self.keypoint_count}")
            return
        points = self._check_points(points, self.sizes[annotation["image_id"]])
        visible = sum(v > 0 for v in points[2::3])
        if stated is not None and stated != visible:
            self.add("repaired", "num_keypoints counted", f"{brief(stated)} instead of {visible}")
        annotation["keypoints"], annotation["num_keypoints"] = points, visible

    def _check_points(self, points: list[float], size: tuple[int, int]) -> list[float]:
        """The points, those far outside the image no longer labelled."""
        checked = list(points)
        for start in range(0, len(points), _NUMBERS_PER_KEYPOINT):
            x, y, visibility = points[start : start + _NUMBERS_PER_KEYPOINT]
            out = max(-x, -y, x - size[0], y - size[1])
            if visibility > 0 and out > _TOLERATED:
                self.add("repaired", "keypoint outside the image no longer labelled", f"{x}, {y}")
                checked[start : start + _NUMBERS_PER_KEYPOINT] = [0, 0, 0]
        return checked


def _are_numbers(values: Any, count: int | None = None) -> bool:
    """Whether it is a list of finite numbers of some size, and as many as ``count``."""
    if not isinstance(values, list | tuple) or (count is not None and len(values) != count):
        return False
    return all(
        isinstance(value, int | float) and abs(value) < _HUGE and math.isfinite(value)
        for value in values
    )


def _iou(first: Any, second: Any) -> float:
    """Overlap of two boxes x, y, width, height."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    common = max(width, 0) * max(height, 0)
    return common / (first[2] * first[3] + second[2] * second[3] - common)
