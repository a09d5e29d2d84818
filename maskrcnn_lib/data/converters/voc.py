"""Pascal VOC: one XML file of boxes per image, and for some images a PNG of instances."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from maskrcnn_lib.data.converters.content import (
    ContentBuilder,
    Converted,
    encode_crop,
    find_image,
    read_xml,
)

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
_SPLIT_FOLDERS = ("Main", "Segmentation", "")  # of ImageSets


def convert_voc(
    source: str | Path,
    split: str = "",
    *,
    class_names: Sequence[str] = (),
    use_difficult: bool = True,
    masks: bool = True,
) -> Converted:
    """Reads a directory in Pascal VOC's layout.

    Boxes count pixels from 1 and include the last one; they become x - 1, y - 1 and the full width.

    Args:
        source: directory with ``Annotations/*.xml`` and ``JPEGImages`` (VOC2012 itself, not
            VOCdevkit); or one that holds XML files and images side by side.
        split: name of a list in ``ImageSets/Main`` or ``ImageSets/Segmentation``; "" takes all.
        class_names: the classes in order; by default VOC's 20, or where others are found, all that
            the directory has (not only the split), sorted.
        use_difficult: keep objects marked as difficult.
        masks: read ``SegmentationObject``, where an image has one.

    Raises:
        FileNotFoundError: no such directory, list or XML file.
        ValueError: an XML file cannot be read.
    """
    root = Path(source)
    annotations = root / "Annotations" if (root / "Annotations").is_dir() else root
    images = root / "JPEGImages" if (root / "JPEGImages").is_dir() else root
    builder = ContentBuilder(root, images)
    for stem in _stems(root, annotations, split):
        element = read_xml(annotations / f"{stem}.xml")
        mask_file = root / "SegmentationObject" / f"{stem}.png"
        bitmap = _read_instances(mask_file) if masks and mask_file.is_file() else None
        _add_image(builder, element, stem, bitmap, use_difficult=use_difficult)
    if not class_names:
        known = set(builder.names()) <= set(CLASSES)
        class_names = CLASSES if known else _all_names(annotations)
    return builder.finish(class_names)


def _stems(root: Path, annotations: Path, split: str) -> list[str]:
    if not root.is_dir():
        raise FileNotFoundError(f"no directory at {root}")
    if not split:
        stems = sorted(path.stem for path in annotations.glob("*.xml"))
        if not stems:
            raise FileNotFoundError(f"no XML file in {annotations}")
        return stems
    for folder in _SPLIT_FOLDERS:
        path = root / "ImageSets" / folder / f"{split}.txt"
        if path.is_file():
            return [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
    found = sorted({path.stem for path in root.glob("ImageSets/**/*.txt")})
    raise FileNotFoundError(
        f"no list ImageSets/Main/{split}.txt in {root}; there are {', '.join(found) or 'none'}"
    )


def _all_names(annotations: Path) -> list[str]:
    names = set()
    for path in annotations.glob("*.xml"):
        names |= {_text(element, "name") for element in read_xml(path).findall("object")}
    return sorted(names - {""})


def _add_image(
    builder: ContentBuilder,
    element: ElementTree.Element,
    stem: str,
    instances: np.ndarray | None,
    *,
    use_difficult: bool,
) -> None:
    images = builder.image_root
    stated = _text(element, "filename")
    # the file called like the XML is the image, whatever a copied XML says
    path = find_image(images, f"{stem}.jpg") or find_image(images, Path(stated or stem).name)
    size = (_number(element, "size/width"), _number(element, "size/height"))
    known = size if size[0] and size[1] else None
    image_id = builder.add_image(path or images / f"{stem}.jpg", known)
    if image_id is None:
        return
    for index, entry in enumerate(element.findall("object"), start=1):
        difficult = int(_number(entry, "difficult") not in (None, 0))
        if difficult and not use_difficult:
            continue
        segmentation = None
        if instances is not None and (instances == index).any():
            shape = (instances.shape[1], instances.shape[0])
            segmentation = encode_crop(instances == index, (0, 0), shape)
        builder.add_object(
            image_id,
            _text(entry, "name"),
            box=_box(entry),
            segmentation=segmentation,
            difficult=difficult,
        )


def _box(entry: ElementTree.Element) -> list[Any]:
    """x, y, width, height; what is missing is None and left to the validation."""
    x1, y1, x2, y2 = (_number(entry, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax"))
    if x1 is None or y1 is None or x2 is None or y2 is None:
        return [x1, y1, x2, y2]
    return [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(element: ElementTree.Element, path: str) -> float | None:
    try:
        value = float(_text(element, path))
    except ValueError:
        return None
    return int(value) if value.is_integer() else value


def _read_instances(path: Path) -> np.ndarray:
    """(H, W) uint8: the number of the object, from 1, in the order of the XML; 0 and 255 none."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            instances = np.array(image)  # palette indices, not colours
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    if instances.ndim != 2:
        raise ValueError(f"{path} must be a palette image of object numbers, not of colours")
    return instances
