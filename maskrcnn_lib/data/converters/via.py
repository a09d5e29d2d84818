"""VGG Image Annotator: one JSON file for all images, as Matterport's balloon set has it.

Files of version 1 number the regions in a dict, those of version 2 list them; project files hold
either under one more key. Image sizes are not in the file; they are read from the images.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn_lib.data.annotation_report import brief
from maskrcnn_lib.data.converters.content import ContentBuilder, Converted, find_image, read_json
from maskrcnn_lib.data.converters.shapes import ellipse, rectangle
from maskrcnn_lib.data.image_size import read_image_size

_PROJECT_KEY = "_via_img_metadata"


def convert_via(
    source: str | Path,
    *,
    image_dir: str | Path | None = None,
    class_attribute: str = "",
    default_class: str = "object",
    class_names: Sequence[str] = (),
) -> Converted:
    """Reads a VIA file of polygons, polylines, rectangles, circles and ellipses.

    Args:
        source: the JSON file.
        image_dir: directory of the images; by default the file's own.
        class_attribute: region attribute that names the class; by default the one that all regions
            with attributes share.
        default_class: class of regions that name none.
        class_names: the classes in order; by default those found, sorted.

    Raises:
        FileNotFoundError: the file or an image does not exist.
        ValueError: the file is not VIA's, or the class attribute has to be named.
    """
    path = Path(source)
    content = read_json(path)
    if isinstance(content, dict):
        content = content.get(_PROJECT_KEY, content)
    entries = list(content.values()) if isinstance(content, dict) else None
    if entries is None or not all(map(_is_entry, entries)):
        raise ValueError(f"{path} is not a VIA file: not all entries have a filename and regions")
    builder = ContentBuilder(path, Path(image_dir) if image_dir else path.parent)
    attribute = class_attribute or _class_attribute(path, entries)
    for entry in entries:
        image = find_image(builder.image_root, str(entry["filename"]))
        if image is None:
            raise FileNotFoundError(
                f"{path} names {entry['filename']!r}, which is not in {builder.image_root}; "
                "--images names another directory"
            )
        image_id = builder.add_image(image, read_image_size(image))
        if image_id is not None:
            for region in _regions(entry):
                _add_region(builder, image_id, region, attribute, default_class)
    return builder.finish(class_names)


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or "filename" not in entry:
        return False
    return isinstance(entry.get("regions") or [], list | dict)


def _regions(entry: dict[str, Any]) -> list[Any]:
    regions = entry.get("regions") or []
    return list(regions.values()) if isinstance(regions, dict) else list(regions)


def _class_attribute(path: Path, entries: list[dict[str, Any]]) -> str:
    """The only attribute that all regions with attributes have; "" where none has any."""
    attributes = [
        set(region["region_attributes"])
        for entry in entries
        for region in _regions(entry)
        if isinstance(region, dict)
        and region.get("region_attributes")
        and isinstance(region["region_attributes"], dict)
    ]
    if not attributes:
        return ""
    shared = set.intersection(*attributes)
    if len(shared) == 1:
        return shared.pop()
    found = sorted(map(str, set.union(*attributes)))
    raise ValueError(
        f"{path} has region attributes {', '.join(found)}; name the one that is the class "
        "(--class-attribute)"
    )


def _add_region(
    builder: ContentBuilder, image_id: int, region: Any, attribute: str, default_class: str
) -> None:
    where = f"image {image_id}"
    try:
        shape = region["shape_attributes"]
        polygon = _polygon(shape)
    except (KeyError, TypeError, ValueError, OverflowError):
        builder.report.add("dropped", "region that cannot be read", where, brief(region))
        return
    if polygon is None:
        kind = f"region of shape {brief(shape.get('name'))}, which has no area"
        builder.report.add("dropped", kind, where)
        return
    attributes = region.get("region_attributes") or {}
    name = _class_name(attributes.get(attribute) if isinstance(attributes, dict) else None)
    builder.add_object(image_id, name or default_class, segmentation=[polygon])


def _polygon(shape: dict[str, Any]) -> list[float] | None:
    """A region's flat polygon; None for points."""
    kind = shape["name"]
    if kind in ("polygon", "polyline"):
        xs, ys = shape["all_points_x"], shape["all_points_y"]
        return [float(v) for point in zip(xs, ys, strict=True) for v in point]
    if kind == "rect":
        x, y, width, height = (float(shape[key]) for key in ("x", "y", "width", "height"))
        return rectangle(x, y, x + width, y + height)
    if kind == "circle":
        x, y, radius = (float(shape[key]) for key in ("cx", "cy", "r"))
        return ellipse((x, y), (radius, radius))
    if kind == "ellipse":
        x, y, rx, ry = (float(shape[key]) for key in ("cx", "cy", "rx", "ry"))
        return ellipse((x, y), (rx, ry), float(shape.get("theta", 0.0)))
    return None


def _class_name(value: Any) -> str:
    """The value of a text, radio or drop-down attribute, or the only ticked box of several."""
    if isinstance(value, dict):
        ticked = [key for key, on in value.items() if on]
        return ticked[0] if len(ticked) == 1 else ""
    return value.strip() if isinstance(value, str) else ""
