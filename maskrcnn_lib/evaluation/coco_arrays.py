"""COCO annotations and results as arrays: dicts are read once, key by key."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from operator import itemgetter
from typing import Any

import numpy as np
import torch

from maskrcnn_lib.structures.flat_polygons import FlatPolygons

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MaskTexts:
    """Run lengths of N masks in COCO's text.

    Attributes:
        characters: (L,) uint8, the texts one after another.
        spans: (N, 2) int64, where each mask's text begins and ends.
    """

    characters: np.ndarray
    spans: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str]) -> "MaskTexts":
        """From one text for each mask."""
        characters = np.frombuffer(bytearray("".join(texts), "ascii"), dtype=np.uint8)
        ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
        return cls(characters, _spans(np.concatenate([[0], ends])))

    def text(self, i: int) -> str:
        """The text of one mask."""
        begin, end = self.spans[i]
        return self.characters[begin:end].tobytes().decode("ascii")


@dataclass(frozen=True)
class Entries:
    """Objects or detections, N of them.

    Attributes:
        image, category: (N,) int64, places in the ascending ids of images and of categories.
        area: (N,) float64 in pixels; None for detections whose masks have to tell.
        boxes: (N, 4) float64, x, y, width, height; None where masks are compared.
        masks: N of them; None where boxes are compared.
        score: (N,) float64; zeros for objects.
        crowd: (N,) bool.
    """

    image: np.ndarray
    category: np.ndarray
    area: np.ndarray | None
    boxes: np.ndarray | None
    masks: MaskTexts | None
    score: np.ndarray
    crowd: np.ndarray

    def take(self, rows: np.ndarray) -> "Entries":
        """The entries at the places ``rows``, (M,) int64, in that order."""
        columns = {
            name: None if column is None else column[rows]
            for name, column in vars(self).items()
            if name != "masks"
        }
        masks = self.masks and MaskTexts(self.masks.characters, self.masks.spans[rows])
        return Entries(**columns, masks=masks)


@dataclass(frozen=True)
class DatasetIndex:
    """Ids of a data set, and where they are in ascending order.

    Attributes:
        images, categories: place per id.
        sizes: (I, 2) int64, height and width of the images; zeros where they are not needed.
    """

    images: Mapping[Any, int]
    categories: Mapping[Any, int]
    sizes: np.ndarray

    @classmethod
    def of(cls, dataset: Mapping[str, Any], *, with_sizes: bool) -> "DatasetIndex":
        """The index of a dict with ``images`` and ``categories``."""
        images = _places(image["id"] for image in dataset["images"])
        sizes = np.zeros((len(images), 2), dtype=np.int64)
        if with_sizes:
            for image in dataset["images"]:
                sizes[images[image["id"]]] = image["height"], image["width"]
        categories = _places(category["id"] for category in dataset["categories"])
        return cls(images, categories, sizes)


def _places(ids: Any) -> dict[Any, int]:
    return {number: place for place, number in enumerate(sorted(set(ids)))}


def read_objects(
    annotations: Sequence[Mapping[str, Any]], index: DatasetIndex, iou_type: str
) -> Entries:
    """Annotated objects. Those of images or categories that the data set does not list are not
    looked for, as in the COCO API. An object without a mask is one that no mask finds.

    Raises:
        ValueError: an annotation lacks a key.
    """
    what = "annotation"
    listed = [
        entry
        for entry in annotations
        if entry["image_id"] in index.images and entry["category_id"] in index.categories
    ]
    if iou_type == "segm":
        listed = _with_masks(listed)
    image = _column(listed, "image_id", what, index.images, np.int64)
    crowd = np.array([bool(entry.get("iscrowd", 0)) for entry in listed], dtype=bool)
    return Entries(
        image=image,
        category=_column(listed, "category_id", what, index.categories, np.int64),
        area=_column(listed, "area", what),
        boxes=_boxes(listed, what) if iou_type == "bbox" else None,
        masks=_masks(listed, what, index.sizes[image]) if iou_type == "segm" else None,
        score=np.zeros(len(listed)),
        crowd=crowd,
    )


def _with_masks(objects: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The objects; those that have no mask get an empty one."""
    missing = sum("segmentation" not in entry for entry in objects)
    if missing:
        text = "%d of %d objects of the data set have no mask; they count as not found"
        logger.warning(text, missing, len(objects))
    return [
        entry if "segmentation" in entry else {**entry, "segmentation": []} for entry in objects
    ]


def read_detections(
    results: Sequence[Mapping[str, Any]], index: DatasetIndex, iou_type: str
) -> Entries:
    """COCO results. Those of categories that the data set does not list are left out.

    Where the first result has a box, all areas are those of boxes, as in the COCO API.

    Raises:
        ValueError: a result lacks a key, is not finite or is of an image that the data set does
            not have.
    """
    what = "result"
    category = np.fromiter(
        map(index.categories.get, _values(results, "category_id", what), repeat(-1)),
        np.int64,
        len(results),
    )
    image = _column(results, "image_id", what, index.images, np.int64)
    has_boxes = iou_type == "bbox" or bool(results and results[0].get("bbox"))
    boxes = _boxes(results, what) if has_boxes else None
    scores = _column(results, "score", what)
    # an overlap that is no number is below no threshold, so that such a box would match any object
    for key, values in (("score", scores[:, None]), ("bbox", boxes)):
        finite = values is None or np.isfinite(values).all(axis=1)
        if not np.all(finite):
            raise ValueError(f"{key} of result {int(np.argmin(finite))} is not finite")
    if (category < 0).any():
        logger.warning(
            "%d of %d results are left out: the data set does not list their categories",
            (category < 0).sum(),
            len(results),
        )
    entries = Entries(
        image=image,
        category=category,
        area=None if boxes is None else boxes[:, 2] * boxes[:, 3],
        boxes=boxes if iou_type == "bbox" else None,
        masks=_masks(results, what, index.sizes[image]) if iou_type == "segm" else None,
        score=scores,
        crowd=np.zeros(len(results), dtype=bool),
    )
    return entries if (category >= 0).all() else entries.take(np.flatnonzero(category >= 0))


def _values(entries: Sequence[Mapping[str, Any]], key: str, what: str) -> list[Any]:
    try:
        return list(map(itemgetter(key), entries))
    except KeyError:
        number = next(i for i, entry in enumerate(entries) if key not in entry)
        raise ValueError(f"{what} {number} lacks {key}") from None


def _column(
    entries: Sequence[Mapping[str, Any]],
    key: str,
    what: str,
    places: Mapping[Any, int] | None = None,
    dtype: type = np.float64,
) -> np.ndarray:
    """The values of one key, (N,); or their places."""
    values = _values(entries, key, what)
    try:
        found = values if places is None else map(places.__getitem__, values)
        return np.fromiter(found, dtype, len(values))
    except KeyError as error:
        number = values.index(error.args[0])
        name = key.removesuffix("_id")
        raise ValueError(
            f"{what} {number} is of {name} {error.args[0]}, which the data set does not have"
        ) from None


def _boxes(entries: Sequence[Mapping[str, Any]], what: str) -> np.ndarray:
    values = _values(entries, "bbox", what)
    try:
        if any(length != 4 for length in map(len, values)):
            raise ValueError
        flat = np.fromiter(chain.from_iterable(values), np.float64, 4 * len(values))
    except (TypeError, ValueError):
        number = next(i for i, box in enumerate(values) if np.shape(box) != (4,))
        raise ValueError(f"bbox of {what} {number} is not [x, y, width, height]") from None
    return flat.reshape(-1, 4)


def _masks(entries: Sequence[Mapping[str, Any]], what: str, sizes: np.ndarray) -> MaskTexts:
    """All masks; ``sizes`` are the heights and widths of their images, (N, 2)."""
    masks = _values(entries, "segmentation", what)
    is_polygons = np.fromiter((isinstance(mask, list) for mask in masks), bool, len(masks))
    encoded, drawn = np.flatnonzero(~is_polygons), np.flatnonzero(is_polygons)
    if len(drawn) == 0:
        return _run_length_texts(masks, sizes, encoded, what)
    polygons = _polygon_texts([masks[i] for i in drawn], sizes[drawn])
    runs = _run_length_texts([masks[i] for i in encoded], sizes[encoded], encoded, what)
    spans = np.empty((len(masks), 2), dtype=np.int64)
    spans[drawn], spans[encoded] = polygons.spans, runs.spans + len(polygons.characters)
    return MaskTexts(np.concatenate([polygons.characters, runs.characters]), spans)


def _run_length_texts(
    masks: Sequence[Mapping[str, Any]], sizes: np.ndarray, numbers: np.ndarray, what: str
) -> MaskTexts:
    """Masks that are run lengths; ``numbers`` tell errors which entries they are of."""
    try:
        stated = np.fromiter(chain.from_iterable(map(itemgetter("size"), masks)), np.int64)
        counts = list(map(itemgetter("counts"), masks))
    except KeyError as error:
        key = error.args[0]
        number = next(n for n, mask in zip(numbers, masks, strict=True) if key not in mask)
        raise ValueError(f"mask of {what} {number} lacks {key}") from None
    wrong = np.flatnonzero((stated.reshape(-1, 2) != sizes).any(axis=1))
    if len(wrong):
        raise ValueError(
            f"mask of {what} {numbers[wrong[0]]} is {masks[wrong[0]]['size']}, its image "
            f"{sizes[wrong[0]].tolist()} ([height, width])"
        )
    if not set(map(type, counts)) <= {str}:
        counts = [_text(c, *size) for c, size in zip(counts, sizes.tolist(), strict=True)]
    return MaskTexts.of(counts)


def _text(counts: str | bytes | list[int], height: int, width: int) -> str:
    from pycocotools import mask as coder

    if isinstance(counts, list):
        size = [height, width]
        counts = coder.frPyObjects({"size": size, "counts": counts}, height, width)["counts"]
    return counts if isinstance(counts, str) else counts.decode("ascii")


def _polygon_texts(masks: Sequence[Sequence[Sequence[float]]], sizes: np.ndarray) -> MaskTexts:
    """Masks that are lists of polygons.

    A last x without its y is left out, as by the COCO API: it would move all points behind it.
    """
    even = (polygon[: len(polygon) // 2 * 2] for polygon in chain.from_iterable(masks))
    coordinates = np.fromiter(chain.from_iterable(even), np.float64)
    points = torch.from_numpy(coordinates.reshape(-1, 2))
    lengths = [[len(polygon) // 2 for polygon in polygons] for polygons in masks]
    flat = FlatPolygons.from_counts(points, lengths)
    runs, offsets = torch.ops.maskrcnn.polygons_to_rle(*flat, torch.from_numpy(sizes))
    characters, ends = torch.ops.maskrcnn.compress_rle(runs, offsets)
    return MaskTexts(characters.numpy(), _spans(ends.numpy()))


def _spans(offsets: np.ndarray) -> np.ndarray:
    return np.stack([offsets[:-1], offsets[1:]], axis=1).astype(np.int64)
