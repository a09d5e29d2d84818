"""Validation of the image entries of a COCO annotation file: ids, names and sizes."""

import posixpath
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from maskrcnn_lib.data.annotation_report import AnnotationReport, brief, is_text
from maskrcnn_lib.data.image_size import read_image_size

MAX_PIXELS = 178_956_970  # of an image; Pillow reads no larger one
_MAX_ID = 2**53  # beyond it JSON readers disagree
_MAX_ID_DIGITS = 16


def whole_number(value: Any) -> int | None:
    """An id as int: whole numbers, also as text or float; None for anything else."""
    if isinstance(value, str):
        digits = value.strip().removeprefix("-")
        if not (digits.isascii() and digits.isdecimal() and len(digits) <= _MAX_ID_DIGITS):
            return None
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _MAX_ID:
        return None
    return value


def check_images(
    entries: list[Any], report: AnnotationReport, root: Path | None
) -> dict[int, dict[str, Any]]:
    """Checks all image entries.

    Args:
        root: directory of the images, where sizes are read that the file does not state.

    Returns:
        id -> entry with ``id``, ``file_name``, ``width`` and ``height``.
    """
    found: dict[int, dict[str, Any]] = {}
    given: dict[int, Any] = {}
    named: dict[str, int] = {}
    for index, entry in enumerate(entries):
        image_id = whole_number(entry.get("id")) if isinstance(entry, dict) else None
        if image_id is None:
            where = f"image entry {index}"
            kind = "image without a whole number as id (number images and image_id alike)"
            report.add("refused", kind, where, brief(entry))
            continue
        where = f"image {image_id}"
        if image_id in given:
            if entry == given[image_id]:
                report.add("dropped", "image listed twice", where)
            else:
                report.add("refused", "image id used twice", where, brief(entry.get("file_name")))
            continue
        given[image_id] = entry
        name = _check_name(entry, report, where, root)
        if name is None:
            continue
        if named.setdefault(name, image_id) != image_id:
            detail = f"{brief(name)}, also image {named[name]}"
            report.add("noted", "image file listed under several ids", where, detail)
        size = _check_size(entry, report, where, None if root is None else root / name)
        if size is not None:
            width, height = size
            sized = {"id": image_id, "file_name": name, "width": width, "height": height}
            found[image_id] = {**entry, **sized}
    return found


def _check_name(
    entry: dict[str, Any], report: AnnotationReport, where: str, root: Path | None
) -> str | None:
    """``file_name`` below the image directory, with slashes; None where it is refused."""
    name = entry.get("file_name")
    address = entry.get("coco_url")
    if name is None and isinstance(address, str) and address.count("/") >= 2:
        # LVIS: .../train2017/000000391895.jpg
        name = "/".join(address.split("/")[-2:])
        report.add("repaired", "file_name taken from coco_url", where, brief(name))
    if not is_text(name):
        report.add("refused", "image without a usable file_name", where, brief(name))
        return None
    if root is not None and Path(name).is_absolute() and Path(name).is_relative_to(root.absolute()):
        name = Path(name).relative_to(root.absolute()).as_posix()
        report.add("repaired", "absolute file_name made relative", where, brief(name))
    if "\\" in name and (root is None or not _exists(root / name)):
        name = name.replace("\\", "/")
        report.add("repaired", "file_name with backslashes", where, brief(name))
    if not stays_below(name):
        kind = "file_name leads out of the image directory (it is relative to that)"
        report.add("refused", kind, where, brief(name))
        return None
    return posixpath.normpath(name)


def stays_below(name: str) -> bool:
    """Whether a relative name, with slashes, stays below the directory that it is joined to."""
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive:
        return False
    steps = posixpath.normpath(name).split("/")
    return steps[0] not in ("..", ".")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name longer than the file system takes
        return False


def _check_size(
    entry: dict[str, Any], report: AnnotationReport, where: str, path: Path | None
) -> tuple[int, int] | None:
    """(width, height); None where it is refused."""
    width, height = (whole_number(entry.get(key)) for key in ("width", "height"))
    stated = f"width {brief(entry.get('width'))}, height {brief(entry.get('height'))}"
    if width is not None and height is not None and width > 0 and height > 0:
        if width * height <= MAX_PIXELS:
            return width, height
        report.add("refused", f"image of more than {MAX_PIXELS} pixels", where, stated)
        return None
    try:
        if path is None:
            raise FileNotFoundError("no image directory is known")
        size = read_image_size(path)
    except (OSError, ValueError) as error:
        detail = f"{stated}; {brief(str(error))}"
        report.add("refused", "image without width and height", where, detail)
        return None
    report.add("repaired", "size read from the image file", where, stated)
    return size
