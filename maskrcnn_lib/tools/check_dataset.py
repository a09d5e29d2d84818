"""``maskrcnn check-dataset``: what a data set holds, what is wrong with it, and how it looks.

Data sets are catalog names or "coco:ANNOTATIONS.json:IMAGE_DIR"; by default those of the config.
The exit code is 1 where a data set cannot be used or images are missing or damaged.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from maskrcnn_lib.data.annotation_report import AnnotationReport
    from maskrcnn_lib.data.statistics import DatasetStatistics

_BAR = 30  # characters of the longest bar
_LISTED = 5  # damaged images and wrong targets that are named
_CELL = 480  # longer side of an example, in pixels


@dataclass
class DatasetCheck:
    """What was found out about one data set.

    Attributes:
        name: as it was asked for.
        refusal: why the annotations cannot be used; "" where they can.
        report: findings of the validation; None for data sets that have none.
        statistics: counts; None where the annotations cannot be used.
        bad_images: images that are missing, damaged or of another size, one line each.
        files: written.
    """

    name: str
    refusal: str = ""
    report: "AnnotationReport | None" = None
    statistics: "DatasetStatistics | None" = None
    bad_images: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether training can use it as it is."""
        counts = self.statistics
        return not (self.refusal or self.bad_images or counts is None or counts.problems) and bool(
            counts.objects
        )


def check_dataset(
    cfg: Any,
    name: str,
    output: str | Path,
    *,
    decode: bool = False,
    examples: int = 12,
    seed: int = 0,
) -> DatasetCheck:
    """Checks one data set.

    Args:
        cfg: config; its PATHS_CATALOG knows the name.
        name: catalog name or ``"coco:ANNOTATIONS.json:IMAGE_DIR"``.
        output: directory for ``annotations.csv`` (every finding) and ``examples.png``.
        decode: read every image completely, instead of only its header.
        examples: images with objects on the page of examples.
        seed: chooses them.

    Raises:
        KeyError: the catalog does not know the name.
        FileNotFoundError: the annotations or the image directory do not exist.
    """
    from maskrcnn_lib.data.annotation_report import AnnotationError
    from maskrcnn_lib.data.datasets import build_dataset
    from maskrcnn_lib.data.statistics import dataset_statistics
    from maskrcnn_lib.utils.writing import named_errors

    target = Path(output)
    target.mkdir(parents=True, exist_ok=True)
    check = DatasetCheck(name)
    try:
        dataset = build_dataset(cfg, name)
    except AnnotationError as error:
        check.refusal, check.report = str(error), error.report
    except ValueError as error:
        check.refusal = str(error)
    else:
        check.report = getattr(dataset, "report", None)
        check.statistics = dataset_statistics(dataset)
        check.bad_images = list(_bad_images(dataset, decode=decode))
        page = example_page(dataset, examples, seed=seed)
        if page is not None:
            from PIL import Image

            check.files.append(target / "examples.png")
            with named_errors(check.files[-1]):
                Image.fromarray(page).save(check.files[-1])
    if check.report is not None:
        check.files.append(target / "annotations.csv")
        check.report.write(check.files[-1])
    return check


def _bad_images(dataset: Any, *, decode: bool) -> list[str]:
    """One line for each image that is missing, damaged, or not of the size that is stated."""
    from maskrcnn_lib.data.image_size import check_image_size, read_image_size

    bad = []
    for index in range(len(dataset)):
        try:
            if decode or not hasattr(dataset, "image_path"):
                dataset[index]
                continue
            info, path = dataset.get_img_info(index), dataset.image_path(index)
            stated = info["width"], info["height"]
            source = getattr(dataset, "source", "the data set")
            check_image_size(path, read_image_size(path), stated, source)
        except (OSError, ValueError) as error:
            bad.append(str(error))
    return bad


def example_page(dataset: Any, count: int = 12, *, seed: int = 0) -> "np.ndarray | None":
    """A page of images with their annotated objects.

    Args:
        dataset: any data set.
        count: most images on the page.
        seed: chooses them, out of those that have objects and can be read.

    Returns:
        (H, W, 3) uint8 RGB; None where no image has objects.
    """
    import numpy as np

    from maskrcnn_lib.data.statistics import class_names_of, read_target
    from maskrcnn_lib.visualization.pages import draw_target, image_page

    names, drawn = class_names_of(dataset), []
    for index in np.random.default_rng(seed).permutation(len(dataset)).tolist():
        if len(drawn) == count:
            break
        try:
            if len(read_target(dataset, index)):
                image, target, *_ = dataset[index]
                drawn.append(draw_target(np.asarray(image), target, names, size=_CELL))
        except (OSError, ValueError):  # told in the list of bad images
            continue
    return image_page(drawn) if drawn else None


def format_check(check: DatasetCheck) -> str:
    """The result as text: findings, images, objects per class, files."""
    lines = [f"== {check.name}"]
    if check.report is not None:
        lines.append(check.report.table())
    if check.refusal:
        lines.append(check.refusal)
    if check.statistics is not None:
        lines += _format_statistics(check.statistics)
        lines += _format_list("targets that cannot be trained on", check.statistics.problems)
        lines += _format_list("images that cannot be used", check.bad_images)
        if not check.statistics.objects:
            lines.append("there is no object to learn from")
    lines += [f"written: {path}" for path in check.files]
    dropped = check.report.count("dropped") if check.report is not None else 0
    without = f", without the {dropped} things that are dropped" if dropped else ""
    lines.append(f"usable{without}" if check.usable else "NOT usable as it is")
    return "\n".join(lines)


def _format_statistics(statistics: "DatasetStatistics") -> list[str]:
    total = sum(statistics.objects.values())
    sizes = ", ".join(f"{statistics.sizes[key]} {key}" for key in ("small", "medium", "large"))
    lines = [
        f"{statistics.images} images ({statistics.without_objects} without objects), {total} "
        f"objects ({statistics.with_masks} with a mask; {sizes}), at most {statistics.most} in one "
        "image"
    ]
    width = max((len(name) for name in statistics.objects), default=0)
    largest = max(statistics.objects.values(), default=1)
    for name, count in statistics.objects.most_common():
        bar = "#" * max(1, round(_BAR * count / largest))
        images = statistics.images_of[name]
        lines.append(f"  {name:<{width}} {count:>8} in {images:>6} images  {bar}")
    unused = [name for name in statistics.class_names[1:] if name not in statistics.objects]
    return [*lines, f"  no object of: {', '.join(unused)}"] if unused else lines


def _format_list(title: str, entries: Sequence[str]) -> list[str]:
    if not entries:
        return []
    more = [f"  and {len(entries) - _LISTED} more"] if len(entries) > _LISTED else []
    return [f"{len(entries)} {title}:", *(f"  {entry}" for entry in entries[:_LISTED]), *more]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options; KEY VALUE pairs arrive as ``args.opts``."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets to check")
    parser.add_argument("--json", metavar="J", help="a COCO annotation file")
    parser.add_argument("--images", metavar="DIR", help="the directory of its images")
    parser.add_argument("--config-file", metavar="F", help="check what this config names")
    parser.add_argument("--output", default="dataset_check", metavar="DIR", help="for the pictures")
    parser.add_argument("--decode", action="store_true", help="read every image completely")
    parser.add_argument("--examples", type=int, default=12, metavar="N", help="default: 12")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="chooses the examples")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    from maskrcnn_lib.config import get_cfg

    cfg = get_cfg(args.config_file, args.opts)
    if (args.json is None) != (args.images is None):
        raise ValueError("--json and --images are needed together")
    names = list(args.names)
    if args.json is not None:
        names.append(f"coco:{args.json}:{args.images}")
    names = names or [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    if not names:
        raise ValueError("no data set: name one, give --json and --images, or --config-file")
    usable = True
    for name in dict.fromkeys(names):
        folder = Path(args.output)
        if len(names) > 1:
            folder /= Path(name.split(":")[1]).stem if ":" in name else name
        check = check_dataset(
            cfg, name, folder, decode=args.decode, examples=args.examples, seed=args.seed
        )
        print(format_check(check))
        usable &= check.usable
    return 0 if usable else 1
