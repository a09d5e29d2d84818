"""What all converters share: collecting COCO annotations, and reading small files."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from maskrcnn_lib.data.annotation_report import AnnotationReport, brief, is_text
from maskrcnn_lib.data.image_io import IMAGE_SUFFIXES


@dataclass(frozen=True)
class Converted:
    """Annotations in COCO's format.

    Attributes:
        content: ``images``, ``annotations`` and ``categories``; not yet validated.
        image_root: the directory to which each ``file_name`` is relative.
        report: what could not be converted.
    """

    content: dict[str, Any]
    image_root: Path
    report: AnnotationReport


class ContentBuilder:
    """Collects images and objects, and numbers them."""

    def __init__(self, source: str | Path, image_root: Path) -> None:
        self.image_root = image_root
        self.report = AnnotationReport(str(source))
        self._images: list[dict[str, Any]] = []
        self._objects: list[tuple[str, dict[str, Any]]] = []

    def add_image(self, path: Path, size: tuple[int, int] | None = None) -> int | None:
        """Adds an image file; returns its id.

        Args:
            path: below ``image_root``; for one that is not, None comes back and it is reported.
            size: (width, height); by default the validation reads it from the file.
        """
        name = _name_below(path, self.image_root)
        if name is None:
            self.report.add("dropped", f"image outside {self.image_root}", brief(str(path)))
            return None
        image: dict[str, Any] = {"id": len(self._images) + 1, "file_name": name}
        if size is not None:
            image["width"], image["height"] = size
        self._images.append(image)
        return image["id"]

    def add_object(
        self,
        image_id: int,
        name: Any,
        *,
        box: Sequence[float] | None = None,
        segmentation: list[list[float]] | dict[str, Any] | None = None,
        is_crowd: bool = False,
        **extra: Any,
    ) -> None:
        """Adds an object of class ``name``; box x, y, width, height, by default the mask's."""
        if not is_text(name):
            where = f"image {self._images[image_id - 1]['file_name']}"
            self.report.add("dropped", "object without a class name", where, brief(name))
            return
        annotation: dict[str, Any] = {"image_id": image_id, "iscrowd": int(is_crowd), **extra}
        if segmentation is not None:
            annotation["segmentation"] = segmentation
        annotation["bbox"] = list(box) if box is not None else _box_around(segmentation)
        self._objects.append((name.strip(), annotation))

    def names(self) -> list[str]:
        """The class names of all objects, sorted."""
        return sorted({name for name, _ in self._objects})

    def finish(self, class_names: Sequence[str] = (), ids: Sequence[int] = ()) -> Converted:
        """Everything collected.

        Args:
            class_names: the classes in the order of their ids; by default those found, sorted.
                Objects of other classes are left out and reported.
            ids: their category ids; by default 1, 2, 3, ...
        """
        names = list(class_names) or self.names()
        id_of = dict(zip(names, ids or range(1, len(names) + 1), strict=True))
        annotations = []
        for name, annotation in self._objects:
            if name not in id_of:
                where = f"image {self._images[annotation['image_id'] - 1]['file_name']}"
                self.report.add("dropped", "object of a class that is not wanted", where, name)
                continue
            number = {"id": len(annotations) + 1, "category_id": id_of[name]}
            annotations.append({**number, **annotation})
        content = {
            "images": self._images,
            "annotations": annotations,
            "categories": [{"id": i, "name": name} for name, i in id_of.items()],
        }
        return Converted(content, self.image_root, self.report)


def _box_around(segmentation: Any) -> list[float] | None:
    """x, y, width, height of polygons; None leaves it to the validation."""
    if not isinstance(segmentation, list) or not segmentation:
        return None
    xs = [x for polygon in segmentation for x in polygon[0::2]]
    ys = [y for polygon in segmentation for y in polygon[1::2]]
    if not xs or not ys:
        return None
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def encode_crop(crop: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> dict[str, Any]:
    """COCO's compressed run lengths of a bitmap that is empty outside a crop.

    Args:
        crop: (h, w) bool; what reaches out of the image is cut off.
        corner: x, y of its upper left pixel.
        size: (width, height) of the image.
    """
    from pycocotools import mask as coco_mask

    width, height = size
    bitmap = np.zeros((height, width), dtype=np.uint8, order="F")
    add_crop(bitmap, crop, corner)
    rle = coco_mask.encode(bitmap)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def add_crop(bitmap: np.ndarray, crop: np.ndarray, corner: tuple[int, int]) -> None:
    """Sets, in place, the pixels of an (H, W) bitmap that a crop covers; see ``encode_crop``."""
    left, top = corner
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + crop.shape[1], bitmap.shape[1]), min(top + crop.shape[0], bitmap.shape[0])
    if x2 > x1 and y2 > y1:
        bitmap[y1:y2, x1:x2] |= crop[y1 - top : y2 - top, x1 - left : x2 - left]


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    try:
        # of bytes, json finds out whether they are UTF-8, -16 or -32, and takes a byte order mark
        return json.loads(path.read_bytes())
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not JSON in UTF-8 (byte {error.start} is {error.object[error.start]:#x}); "
            "is it compressed, or in another encoding?"
        ) from error
    except (ValueError, RecursionError) as error:  # also of numbers with too many digits
        raise ValueError(f"{path} is not JSON: {error}") from error


def read_xml(path: Path) -> ElementTree.Element:
    """The root element of an XML file.

    A document type declaration is refused before it is read: through it a few lines can expand to
    gigabytes or name other files. No annotation tool writes one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not XML, or has such a declaration.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    text = path.read_bytes()

    def refuse(*_: Any) -> None:
        raise ValueError(f"{path} has a document type declaration, which annotations do not need")

    scanner = expat.ParserCreate()
    scanner.StartDoctypeDeclHandler = refuse
    try:
        scanner.Parse(text, True)
        return ElementTree.fromstring(text)
    except (expat.ExpatError, ElementTree.ParseError) as error:
        raise ValueError(f"{path} is not XML: {error}") from error


def _name_below(path: Path, root: Path) -> str | None:
    """``path`` relative to ``root``, with slashes; None for a file elsewhere.

    A link in ``root`` counts as lying there, wherever it leads: data managers keep images so.
    """
    file, root = Path(os.path.abspath(path)), Path(os.path.abspath(root))
    for inner, outer in ((file, root), (file.parent.resolve() / file.name, root.resolve())):
        if inner.is_relative_to(outer):
            return inner.relative_to(outer).as_posix()
    return None


def find_image(directory: Path, name: str) -> Path | None:
    """The image called ``name``, or with its stem and any common suffix, in a directory."""
    # os.path takes a name that is too long, or has a NUL, for a file that does not exist
    if os.path.isfile(directory / name):
        return directory / name
    stem = Path(name).stem
    for suffix in sorted(IMAGE_SUFFIXES):
        for candidate in (directory / f"{stem}{suffix}", directory / f"{stem}{suffix.upper()}"):
            if os.path.isfile(candidate):
                return candidate
    return None
