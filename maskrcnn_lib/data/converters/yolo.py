"""YOLO: one text file per image, rows of a class and normalised coordinates."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from maskrcnn_lib.data.converters.content import ContentBuilder, Converted
from maskrcnn_lib.data.image_io import IMAGE_SUFFIXES
from maskrcnn_lib.data.image_size import read_image_size

_BOX_NUMBERS = 4  # centre x, centre y, width, height
_MIN_POLYGON_NUMBERS = 6
_TOLERANCE = 0.01  # by which a coordinate may lie outside 0..1
_NAME_FILES = ("classes.txt", "obj.names")


def convert_yolo(
    source: str | Path,
    split: str = "train",
    *,
    image_dir: str | Path | None = None,
    class_names: Sequence[str] = (),
) -> Converted:
    """Reads one split of a data set in YOLO's format, boxes and polygons mixed.

    Where the YAML has ``kpt_shape``, rows are boxes with key points.

    Labels lie where the last ``images`` of an image's path is replaced by ``labels``, else beside
    the image. An empty or missing file means an image without objects.

    Args:
        source: ``data.yaml``, a directory that has one, or a directory with images and
            ``classes.txt``.
        split: key in ``data.yaml``; without one, the directory ``images/SPLIT``, ``SPLIT/images``
            or ``images`` where it exists.
        image_dir: directory of the images, instead of what ``source`` says.
        class_names: the classes in order, instead of what ``source`` says.

    Raises:
        FileNotFoundError: a file or directory does not exist, or there is no image.
        ValueError: the YAML is not such a file, or the class names or ``kpt_shape`` are unusable.
    """
    path = Path(source)
    yaml_file = path if path.is_file() else _find_yaml(path)
    content = _read_yaml(yaml_file) if yaml_file else {}
    root = path.parent if path.is_file() else path
    names = list(class_names) or _read_names(content, root)
    point_shape = _read_point_shape(content)
    if image_dir is not None:
        files, image_root = _files_of(Path(image_dir)), Path(image_dir)
    else:
        files, image_root = _images(content, yaml_file, root, split)
    builder = ContentBuilder(yaml_file or path, image_root)
    for image in files:
        size = read_image_size(image)
        image_id = builder.add_image(image, size)
        if image_id is not None:
            label_file = _label_file(image)
            if label_file.is_file():
                _add_rows(builder, image_id, label_file, names, size, point_shape)
    return builder.finish(names)


def _find_yaml(directory: Path) -> Path | None:
    if not directory.is_dir():
        raise FileNotFoundError(f"no file or directory at {directory}")
    found = sorted([*directory.glob("*.yaml"), *directory.glob("*.yml")])
    preferred = [path for path in found if path.stem in ("data", "dataset")]
    return (preferred or found or [None])[0]


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a data set file: it has no keys")
    return content


def _read_names(content: dict[str, Any], root: Path) -> list[str]:
    names = content.get("names")
    if isinstance(names, dict):
        count = len(names)
        if set(names) != set(range(count)):
            raise ValueError(f"names have to be numbered 0 to {count - 1}, got {sorted(names)}")
        names = [names[index] for index in range(count)]
    if names is None:
        for name in _NAME_FILES:
            if (root / name).is_file():
                text = (root / name).read_text(encoding="utf-8-sig")
                names = [line.strip() for line in text.splitlines() if line.strip()]
                break
    if not isinstance(names, list) or not names:
        raise ValueError(
            f"the class names of {root} are unknown: give them in data.yaml, in classes.txt, or "
            "with --names"
        )
    names = [str(name) for name in names]
    if len(set(names)) != len(names):
        raise ValueError(f"class names have to differ, got {names}")
    return names


def _read_point_shape(content: dict[str, Any]) -> tuple[int, int] | None:
    """Key points of an object and numbers of each, 2 or 3; None for objects without."""
    shape = content.get("kpt_shape")
    if shape is None:
        return None
    if not isinstance(shape, list) or len(shape) != 2 or shape[1] not in (2, 3):
        raise ValueError(f"kpt_shape has to be [key points, 2 or 3 numbers of each], got {shape}")
    return shape[0], shape[1]


def _images(
    content: dict[str, Any], yaml_file: Path | None, root: Path, split: str
) -> tuple[list[Path], Path]:
    """All images of a split, and the directory that holds them."""
    if yaml_file is None:
        candidates = (root / "images" / split, root / split / "images", root / "images", root)
        directory = next(path for path in candidates if path.is_dir())
        return _files_of(directory), directory
    stated = content.get(split)
    if not stated:
        keys = [key for key in ("train", "val", "valid", "test") if content.get(key)]
        raise ValueError(f"{yaml_file} has no split {split!r}; there are {', '.join(keys)}")
    base = root / str(content.get("path") or ".")
    base = base if base.is_dir() else root
    sources = [_locate(base, root, str(entry)) for entry in _as_list(stated)]
    files = [file for source in sources for file in _files_of(source)]
    if len(sources) == 1 and sources[0].is_dir():
        return files, sources[0]
    return files, base


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _locate(base: Path, root: Path, name: str) -> Path:
    """A path of ``data.yaml``: below ``path``, below the file, or Roboflow's ``../train``."""
    for candidate in (base / name, root / name, root / name.removeprefix("../")):
        if candidate.exists():
            return candidate
    raise FileNotFoundError(f"no images at {base / name}")


def _files_of(source: Path) -> list[Path]:
    """The images of a directory and all below it, or those that a text file lists."""
    if source.is_file():
        lines = [line.strip() for line in source.read_text(encoding="utf-8-sig").splitlines()]
        files = [source.parent / line for line in lines if line]
    elif source.is_dir():
        files = sorted(p for p in source.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    else:
        raise FileNotFoundError(f"no file or directory at {source}")
    if not files:
        raise FileNotFoundError(f"no image in {source}")
    return files


def _label_file(image: Path) -> Path:
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _add_rows(
    builder: ContentBuilder,
    image_id: int,
    path: Path,
    names: Sequence[str],
    size: tuple[int, int],
    point_shape: tuple[int, int] | None,
) -> None:
    seen = set()
    for number, line, row in _rows(builder, path):
        where = f"{path.name}, line {number}"
        if row in seen:
            builder.report.add("dropped", "row listed twice", where, line)
            continue
        seen.add(row)
        index, *values = row
        problem, extra = "", {}
        if point_shape is not None:
            values, points = values[:_BOX_NUMBERS], values[_BOX_NUMBERS:]
            if len(points) == math.prod(point_shape):
                extra["keypoints"] = _keypoints(points, point_shape[1], size)
            else:
                problem = "row of another length than kpt_shape says"
        problem = problem or _row_problem(index, values, len(names))
        if problem:
            builder.report.add("dropped", problem, where, line[:60])
            continue
        values = [min(max(value, 0.0), 1.0) for value in values]
        width, height = size
        if len(values) == _BOX_NUMBERS:
            x, y, w, h = values
            box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
            builder.add_object(image_id, names[int(index)], box=box, **extra)
        else:
            polygon = [v * size[i % 2] for i, v in enumerate(values)]
            builder.add_object(image_id, names[int(index)], segmentation=[polygon])


def _keypoints(numbers: Sequence[float], dimensions: int, size: tuple[int, int]) -> list[float]:
    """COCO's x, y, visibility of each; without visibilities, points at (0, 0) are not labelled."""
    points: list[float] = []
    for start in range(0, len(numbers), dimensions):
        x, y, *visibility = numbers[start : start + dimensions]
        points += [x * size[0], y * size[1], *(visibility or [2 * (x > 0 or y > 0)])]
    return points


def _rows(builder: ContentBuilder, path: Path) -> Iterator[tuple[int, str, tuple[float, ...]]]:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = tuple(float(value) for value in line.split())
        except ValueError:
            where = f"{path.name}, line {number}"
            builder.report.add("dropped", "row that is not numbers", where, ascii(line[:60]))
            continue
        yield number, line, row


def _row_problem(index: float, values: Sequence[float], count: int) -> str:
    """Why a row cannot be used; "" for a good one."""
    if not all(math.isfinite(value) for value in (index, *values)):
        return "row with a number that is not finite"
    if len(values) != _BOX_NUMBERS and (len(values) < _MIN_POLYGON_NUMBERS or len(values) % 2):
        return "row that is neither a box nor a polygon"
    if not index.is_integer() or not 0 <= index < count:
        return f"class that is not 0 to {count - 1}"
    if not all(-_TOLERANCE <= value <= 1 + _TOLERANCE for value in values):
        return "coordinate outside 0 to 1"
    return ""
