"""LabelMe: one JSON file of shapes beside, or near, each image."""

import base64
import binascii
import io
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn_lib.data.annotation_report import brief
from maskrcnn_lib.data.converters.content import (
    ContentBuilder,
    Converted,
    add_crop,
    encode_crop,
    find_image,
    read_json,
)
from maskrcnn_lib.data.converters.shapes import ellipse, rectangle
from maskrcnn_lib.data.image_size import read_image_size
from maskrcnn_lib.structures.polygons import rasterize, read_polygons

# A flat polygon, or a bitmap and the x, y of its upper left pixel.
_Part = list[float] | tuple[np.ndarray, tuple[int, int]]


def convert_labelme(
    source: str | Path,
    *,
    image_dir: str | Path | None = None,
    class_names: Sequence[str] = (),
) -> Converted:
    """Reads a directory, and all below it, of LabelMe files.

    Polygons, rectangles, circles and masks become objects; those of one label and one ``group_id``
    in an image become one object. Points and lines are reported and left out.

    Args:
        source: the directory, or one JSON file.
        image_dir: directory that holds the images, or the directories of images; by default
            ``source``.
        class_names: the classes in order; by default those found, sorted.

    Raises:
        FileNotFoundError: no such directory, no JSON file in it, or an image is missing.
        ValueError: a file is not LabelMe's.
    """
    root = Path(source)
    files = [root] if root.is_file() else sorted(root.rglob("*.json"))
    if not files:
        raise FileNotFoundError(f"no JSON file in {root}")
    directory = root.parent if root.is_file() else root
    builder = ContentBuilder(root, Path(image_dir) if image_dir else directory)
    for path in files:
        content = read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            raise ValueError(f"{path} is not a LabelMe file: it has no list of shapes")
        image = _find_image(path, content, builder.image_root)
        size = read_image_size(image)
        image_id = builder.add_image(image, size)
        if image_id is not None:
            _add_shapes(builder, image_id, path, content["shapes"], size)
    return builder.finish(class_names)


def _find_image(path: Path, content: dict[str, Any], image_root: Path) -> Path:
    """Where ``imagePath`` leads, else the file of that name below ``image_root``."""
    stated = str(content.get("imagePath") or path.stem).replace("\\", "/")
    beside = Path(os.path.normpath(path.parent / stated))
    # os.path takes a name that is too long for a file that does not exist
    if os.path.isfile(beside) and beside.resolve().is_relative_to(image_root.resolve()):
        return beside
    found = find_image(image_root, Path(stated).name) or find_image(path.parent, Path(stated).name)
    if found is None:
        raise FileNotFoundError(
            f"{path} is of image {stated!r}, which is neither there nor in {image_root}; --images "
            "names the directory"
        )
    return found


def _add_shapes(
    builder: ContentBuilder, image_id: int, path: Path, shapes: list[Any], size: tuple[int, int]
) -> None:
    objects: dict[Any, list[_Part]] = defaultdict(list)
    for index, shape in enumerate(shapes):
        where = f"{path.name}, shape {index}"
        try:
            part = _read_shape(shape)
            group = shape.get("group_id")
            key = (str(shape["label"]), index if group is None else f"group {group}")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            detail = f"{brief(str(error))} in {brief(shape)}"
            builder.report.add("dropped", "shape that cannot be read", where, detail)
            continue
        if part is None:
            kind = f"shape of type {brief(shape.get('shape_type'))}, which has no area"
            builder.report.add("dropped", kind, where)
        else:
            objects[key].append(part)
    for (label, _), parts in objects.items():
        builder.add_object(image_id, label, segmentation=_join(parts, size))


def _read_shape(shape: dict[str, Any]) -> _Part | None:
    """One shape; None for points and lines."""
    points = [(float(x), float(y)) for x, y in shape["points"]]
    kind = shape.get("shape_type", "polygon")
    if not all(math.isfinite(v) for point in points for v in point):
        raise ValueError("coordinates that are not finite")
    if kind == "polygon":
        return [v for point in points for v in point]
    if kind not in ("rectangle", "circle", "mask"):
        return None
    (x1, y1), (x2, y2) = points[:2] if len(points) != 4 else (points[0], points[2])
    if kind == "rectangle":
        return rectangle(x1, y1, x2, y2)
    if kind == "circle":  # the centre and a point on the circle
        radius = math.hypot(x2 - x1, y2 - y1)
        return ellipse((x1, y1), (radius, radius))
    return _decode_mask(shape["mask"]), (round(min(x1, x2)), round(min(y1, y2)))


def _decode_mask(text: str) -> np.ndarray:
    """(h, w) bool from a PNG in base64."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as image:
            bitmap = np.array(image)
    except (binascii.Error, OSError, SyntaxError) as error:
        raise ValueError(f"mask is no PNG: {error}") from error
    return (bitmap if bitmap.ndim == 2 else bitmap[..., 0]) > 0


def _join(parts: list[_Part], size: tuple[int, int]) -> list[list[float]] | dict[str, Any]:
    """One segmentation: polygons as they are, else the union of all parts as run lengths."""
    polygons = [part for part in parts if isinstance(part, list)]
    if len(polygons) == len(parts):
        return polygons
    width, height = size
    union = rasterize(read_polygons(polygons), (height, width))
    for part in parts:
        if isinstance(part, tuple):
            add_crop(union, *part)
    return encode_crop(union, (0, 0), size)
