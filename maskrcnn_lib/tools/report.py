"""``maskrcnn report``: an evaluation as one HTML file, with its images."""

import argparse

from maskrcnn_lib.tools.result_sources import add_source_arguments, open_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to ``parser``; KEY VALUE pairs arrive as ``args.opts``."""
    add_source_arguments(parser)
    parser.add_argument(
        "-o", "--output", default="report.html", metavar="FILE", help="default: report.html"
    )
    parser.add_argument("--title", default="", help="default: the name of the data set")
    parser.add_argument(
        "--min-score",
        type=float,
        default=0.05,
        metavar="S",
        help="leave out the drawings of detections below it; default: 0.05",
    )
    parser.add_argument(
        "--thumbnails",
        type=int,
        metavar="PIXELS",
        help="longer side of the pictures; 0: none; default: 512, less of more than 300 images",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    from maskrcnn_lib.report.page import write_report

    path = write_report(
        open_run(args),
        args.output,
        title=args.title,
        min_score=args.min_score,
        side=args.thumbnails,
    )
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0
