"""Cityscapes: per image a JSON file of polygons and a PNG of instance numbers."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskrcnn_lib.data.annotation_report import brief
from maskrcnn_lib.data.converters.content import ContentBuilder, Converted, encode_crop, read_json

# The eight classes that Cityscapes evaluates as instances, by their label ids.
LABEL_IDS = {
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
MODES = ("mask", "poly")
_NAMES = {label_id: name for name, label_id in LABEL_IDS.items()}
_GROUP_SUFFIX = "group"  # "cargroup": several cars that are not told apart
_PER_CLASS = 1000  # instance number = label id * 1000 + count; smaller ones are groups
_IMAGE_SUFFIX = "_leftImg8bit.png"


class Instance(NamedTuple):
    """One object in a PNG of instance numbers.

    Attributes:
        name: its class.
        is_crowd: whether it is a group of objects.
        crop: (h, w) bool.
        corner: x, y of the crop's upper left pixel.
    """

    name: str
    is_crowd: bool
    crop: np.ndarray
    corner: tuple[int, int]


class AnnotatedImage(NamedTuple):
    """Where an image and its annotations lie."""

    image: Path
    polygons: Path
    instance_ids: Path


def convert_cityscapes(
    source: str | Path, split: str = "train", *, mode: str = "mask"
) -> Converted:
    """Reads a split of Cityscapes.

    Args:
        source: directory with ``leftImg8bit`` and ``gtFine``.
        split: ``train``, ``val`` or ``test``.
        mode: ``"mask"`` takes the visible pixels of each object, as Cityscapes evaluates them;
            ``"poly"`` the polygons as they were drawn, also where something nearer hides them.

    Raises:
        FileNotFoundError: a directory or file does not exist.
        ValueError: a file cannot be read, or an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {MODES}, got {mode!r}")
    root = Path(source)
    images = root / "leftImg8bit" / split
    builder = ContentBuilder(f"{root} ({split})", images)
    for found in find_annotated(images, root / "gtFine" / split):
        if mode == "poly":
            size, objects = read_polygons(found.polygons)
            image_id = builder.add_image(found.image, size)
            for name, is_crowd, polygon in objects:
                builder.add_object(image_id, name, segmentation=[polygon], is_crowd=is_crowd)
            continue
        ids = read_instance_ids(found.instance_ids)
        size = (ids.shape[1], ids.shape[0])
        image_id = builder.add_image(found.image, size)
        for instance in split_instances(ids):
            rle = encode_crop(instance.crop, instance.corner, size)
            (x, y), (height, width) = instance.corner, instance.crop.shape
            builder.add_object(
                image_id,
                instance.name,
                box=[x, y, width, height],
                segmentation=rle,
                is_crowd=instance.is_crowd,
            )
    return builder.finish(list(LABEL_IDS), list(LABEL_IDS.values()))


def find_annotated(images: Path, annotations: Path) -> list[AnnotatedImage]:
    """All images of a split and the files of their annotations, in the order of their names.

    Raises:
        FileNotFoundError: a directory does not exist, holds no image, or lacks annotations.
    """
    for directory in (images, annotations):
        if not directory.is_dir():
            raise FileNotFoundError(f"no directory at {directory}")
    files = sorted(images.glob(f"*/*{_IMAGE_SUFFIX}"))
    if not files:
        raise FileNotFoundError(f"no CITY/*{_IMAGE_SUFFIX} in {images}")
    found = []
    for image in files:
        start = annotations / image.parent.name / image.name.removesuffix(_IMAGE_SUFFIX)
        polygons = Path(f"{start}_{_kind(annotations)}_polygons.json")
        if not polygons.is_file():
            raise FileNotFoundError(f"no annotations of {image} at {polygons}")
        ids = Path(f"{start}_{_kind(annotations)}_instanceIds.png")
        found.append(AnnotatedImage(image, polygons, ids))
    return found


def _kind(annotations: Path) -> str:
    return "gtCoarse" if "gtCoarse" in annotations.parts else "gtFine"


def read_polygons(
    path: Path,
) -> tuple[tuple[int, int], list[tuple[str, bool, list[float]]]]:
    """The objects of the evaluated classes in a JSON file of polygons.

    Returns:
        (width, height), and per object its class, whether it is a group, and its flat polygon.

    Raises:
        ValueError: the file is not such JSON.
    """
    content = read_json(path)
    try:
        size = (int(content["imgWidth"]), int(content["imgHeight"]))
        objects = [
            (name, is_group, [float(v) for point in entry["polygon"] for v in point])
            for entry in content["objects"]
            for name, is_group in _class_of(entry["label"])
            if not entry.get("deleted")
        ]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path} has no polygons in Cityscapes' form: {brief(error)}") from error
    return size, objects


def _class_of(label: str) -> Iterator[tuple[str, bool]]:
    """The evaluated class of a label and whether it is a group; nothing for others."""
    name = label.removesuffix(_GROUP_SUFFIX)
    if name in LABEL_IDS:
        yield name, name != label


def read_instance_ids(path: Path) -> np.ndarray:
    """(H, W) int32 from a PNG of instance numbers.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such an image.
    """
    from PIL import Image

    if not path.is_file():
        raise FileNotFoundError(f"no instance numbers at {path}")
    try:
        with Image.open(path) as image:
            ids = np.array(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    if ids.ndim != 2:
        raise ValueError(f"{path} must have one channel of 16-bit numbers, got shape {ids.shape}")
    return ids.astype(np.int32)


def split_instances(ids: np.ndarray) -> list[Instance]:
    """The objects of the evaluated classes, by rising number."""
    ys, xs = np.nonzero(ids >= min(_NAMES))
    numbers = ids[ys, xs]
    order = np.argsort(numbers, kind="stable")
    ys, xs, numbers = ys[order], xs[order], numbers[order]
    bounds = [*np.flatnonzero(np.diff(numbers, prepend=-1)), len(numbers)]
    instances = []
    for start, end in pairwise(bounds):
        number = int(numbers[start])
        is_crowd = number < _PER_CLASS
        label_id = number if is_crowd else number // _PER_CLASS
        if label_id not in _NAMES:
            continue
        y, x = ys[start:end], xs[start:end]
        top, left = int(y.min()), int(x.min())
        crop = np.zeros((int(y.max()) + 1 - top, int(x.max()) + 1 - left), dtype=bool)
        crop[y - top, x - left] = True
        instances.append(Instance(_NAMES[label_id], is_crowd, crop, (left, top)))
    return instances
