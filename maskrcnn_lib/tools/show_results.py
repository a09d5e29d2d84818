"""``maskrcnn show``: pictures of what was annotated (left) and what was found (right)."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from maskrcnn_lib.tools.argument_types import count
from maskrcnn_lib.tools.interruption import uninterrupted
from maskrcnn_lib.tools.result_sources import add_source_arguments, open_run

if TYPE_CHECKING:
    from maskrcnn_lib.report.collect import Run


def show_results(
    run: "Run",
    output: str | Path,
    *,
    threshold: float = 0.5,
    worst_first: bool = False,
    first: int | None = None,
    suffix: str = "jpg",
    images: range | None = None,
) -> list[Path]:
    """Writes one picture per image.

    Args:
        run: see :func:`maskrcnn_lib.report.collect.collect`.
        output: directory.
        threshold, worst_first, first, images: see :func:`maskrcnn_lib.report.pictures.comparisons`.
        suffix: ending of the files, which says their format. With ``worst_first`` their names
            begin with their places.

    Returns:
        The files.

    Raises:
        ValueError: there are no results, or it is not known where the images are.
    """
    from PIL import Image

    from maskrcnn_lib.report.pictures import comparisons, picture_name
    from maskrcnn_lib.utils.progress_bar import progress_bar

    if not run.results:
        raise ValueError(f"no results in {run.name}")
    if not run.has_images:
        raise ValueError("where are the images? Give --test-images")
    target = Path(output)
    target.mkdir(parents=True, exist_ok=True)
    drawn = comparisons(
        run.dataset,
        run.results,
        threshold=threshold,
        worst_first=worst_first,
        first=first,
        images=images,
    )
    count = len((range(len(run.dataset)) if images is None else images)[:first])
    written = []
    with progress_bar(count, "image", desc="pictures") as bar:
        for place, (name, picture) in enumerate(drawn, start=1):
            rank = f"{place:0{len(str(count))}d}_" if worst_first else ""
            with uninterrupted():
                written.append(target / f"{rank}{picture_name(name, suffix)}")
                Image.fromarray(picture).save(written[-1], quality=92)
            bar.update()
    return written


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to ``parser``; KEY VALUE pairs arrive as ``args.opts``."""
    add_source_arguments(parser)
    parser.add_argument("--output", default="pictures", metavar="DIR", help="default: pictures")
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        metavar="S",
        help="draw detections of at least this score; default: 0.5",
    )
    parser.add_argument(
        "--worst", action="store_true", help="images with the most mistakes first, and numbered"
    )
    parser.add_argument("--first", type=count, metavar="N", help="draw so many images only")
    parser.add_argument(
        "--image-ext", default="jpg", metavar="EXT", help="ending of the files; default: jpg"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    written = show_results(
        open_run(args),
        args.output,
        threshold=args.threshold,
        worst_first=args.worst,
        first=args.first,
        suffix=args.image_ext.lstrip("."),
    )
    print(f"{len(written)} pictures in {args.output}")
    return 0
