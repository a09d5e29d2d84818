"""``maskrcnn convert``: annotations of other formats as one COCO file, validated.

Formats: voc (Pascal VOC directory), via (VGG Image Annotator JSON), labelme (directory of JSON
files), yolo (data.yaml or its directory), cityscapes (directory with leftImg8bit and gtFine).
"""

import argparse
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskrcnn_lib.data.annotation_report import AnnotationReport
    from maskrcnn_lib.data.converters.content import Converted

FORMATS = ("voc", "via", "labelme", "yolo", "cityscapes")


def convert(
    kind: str, source: str | Path, output: str | Path, **options: Any
) -> "tuple[Converted, AnnotationReport]":
    """Converts annotations and writes them.

    Args:
        kind: one of ``FORMATS``.
        source: what the format's converter in ``maskrcnn_lib.data.converters`` takes.
        output: the COCO JSON file to write; its directory is made where it is missing.
        options: further arguments of the converter.

    Returns:
        The annotations as written, and everything that was left out or repaired.

    Raises:
        FileNotFoundError: something in ``source`` does not exist.
        ValueError: ``output`` is no .json file; unknown format; an option that the format does not
            have; ``source`` cannot be read; nothing usable in it.
    """
    from dataclasses import replace

    from maskrcnn_lib.checkpoint.native import write_atomically
    from maskrcnn_lib.data.annotations import validate_coco

    target = Path(output)
    if target.suffix.lower() != ".json":
        raise ValueError(f"the output must be a .json file, got {target}")
    converter = _converter(kind)
    unknown = sorted(set(options) - set(inspect.signature(converter).parameters))
    if unknown:
        raise ValueError(f"format {kind} has no option {', '.join(unknown)}")
    converted = converter(source, **options)
    report = converted.report
    valid = validate_coco(converted.content, report, converted.image_root)
    objects = [a for image in valid.images for a in valid.annotations.get(image["id"], [])]
    content = {"images": valid.images, "annotations": objects, "categories": valid.categories}
    write_atomically(target, json.dumps(content))
    return replace(converted, content=content), report


def _converter(kind: str) -> "Callable[..., Converted]":
    from maskrcnn_lib.data.converters import cityscapes, labelme, via, voc, yolo

    converters = {
        "voc": voc.convert_voc,
        "via": via.convert_via,
        "labelme": labelme.convert_labelme,
        "yolo": yolo.convert_yolo,
        "cityscapes": cityscapes.convert_cityscapes,
    }
    if kind not in converters:
        raise ValueError(f"unknown format {kind!r}; choose from {', '.join(FORMATS)}")
    return converters[kind]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options."""
    parser.add_argument("format", choices=FORMATS, help="format of the source")
    parser.add_argument("source", metavar="SRC", help="file or directory to read")
    parser.add_argument("-o", "--output", required=True, metavar="JSON", help="file to write")
    parser.add_argument("--images", metavar="DIR", help="image directory (via, labelme, yolo)")
    parser.add_argument("--split", metavar="NAME", help="part to read (voc, yolo, cityscapes)")
    parser.add_argument("--names", metavar="A,B,...", help="the classes, in order")
    modes = "visible pixels, or polygons as drawn (cityscapes; default: mask)"
    parser.add_argument("--mode", choices=("mask", "poly"), help=modes)
    parser.add_argument("--class-attribute", metavar="KEY", help="attribute with the class (via)")
    parser.add_argument("--default-class", metavar="NAME", help="class of unnamed regions (via)")
    parser.add_argument("--report", metavar="CSV", help="list everything repaired or left out")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    names: Sequence[str] | None = None
    if args.names is not None:
        names = [name.strip() for name in args.names.split(",") if name.strip()]
    options = {
        "image_dir": args.images,
        "split": args.split,
        "class_names": names,
        "mode": args.mode,
        "class_attribute": args.class_attribute,
        "default_class": args.default_class,
    }
    given = {key: value for key, value in options.items() if value is not None}
    converted, report = convert(args.format, args.source, args.output, **given)
    if args.report:
        report.write(args.report)
    counts = {key: len(value) for key, value in converted.content.items()}
    names = [category["name"] for category in converted.content["categories"]]
    print(report.table())
    print(
        f"{counts['images']} images, {counts['annotations']} objects, {len(names)} classes "
        f"({', '.join(names)})"
    )
    print(f"written to {args.output}; use it as")
    print(f"  DATASETS.TRAIN '(\"coco:{args.output}:{converted.image_root}\",)'")
    return 0
