"""``maskrcnn plot``: curves of one or several trainings in one picture, or how long they took."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from maskrcnn_lib.tools.argument_types import count

_PICTURE = "curves.png"


def plot_runs(
    paths: Sequence[str | Path],
    output: str | Path,
    *,
    keys: Sequence[str] = ("loss",),
    names: Sequence[str] = (),
    smooth: int = 1,
    title: str = "",
) -> list[str]:
    """Draws numbers of trainings over their iterations: a plot per key, a colour per run.

    Args:
        paths, names: see :func:`maskrcnn_lib.report.training_runs.read_runs`.
        output: picture file; its ending says the format.
        keys: full names such as ``loss_mask``, or their ends, such as ``bbox/AP``.
        smooth: records of which each point is the mean.
        title: over the picture.

    Returns:
        What is not in the picture: a line for each key that a run does not have.

    Raises:
        FileNotFoundError, ValueError: see :func:`maskrcnn_lib.report.training_runs.read_runs`.
        KeyError: no run has a key.
        ImportError: matplotlib is not installed.
    """
    from maskrcnn_lib.report.training_runs import read_runs, series_of, smoothed
    from maskrcnn_lib.visualization.curves import draw_runs

    runs = read_runs(paths, names)
    series = {key: series_of(runs, key) for key in keys}
    drawn = {
        key: {name: smoothed(points, smooth) for name, points in of_key.items()}
        for key, of_key in series.items()
    }
    draw_runs(drawn, output, title=title)
    return [
        f"{run.name} has no {key}"
        for key, of_key in series.items()
        for run in runs
        if run.name not in of_key
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="metrics.jsonl files (detectron2's metrics.json, mmdetection's scalars.json), or "
        "directories that hold one",
    )
    parser.add_argument(
        "--keys",
        nargs="+",
        default=["loss"],
        metavar="KEY",
        help="what to draw; the end of a name is enough: bbox/AP; default: loss",
    )
    parser.add_argument("--out", metavar="F", help=f"picture; default: {_PICTURE}")
    parser.add_argument("--legend", nargs="+", default=(), metavar="NAME", help="names of the runs")
    parser.add_argument(
        "--smooth", type=count, default=1, metavar="N", help="draw means of the last N records"
    )
    parser.add_argument("--title", default="", metavar="TEXT", help="over the picture")
    parser.add_argument(
        "--times", action="store_true", help="a table of the seconds per iteration instead"
    )
    parser.add_argument(
        "--include-outliers",
        action="store_true",
        help="in the table also count each run's first record, in which it warms up",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    if args.times:
        print(_times(args))
    if args.times and args.out is None:
        return 0
    output = Path(args.out or _PICTURE)
    absent = plot_runs(
        args.runs, output, keys=args.keys, names=args.legend, smooth=args.smooth, title=args.title
    )
    print("\n".join([*absent, f"written: {output}"]))
    return 0


def _times(args: argparse.Namespace) -> str:
    from maskrcnn_lib.evaluation.tables import format_table
    from maskrcnn_lib.report.training_runs import read_runs, times_table, training_times

    times = {
        run.name: training_times(run, include_first=args.include_outliers)
        for run in read_runs(args.runs, args.legend)
    }
    return format_table(times_table(times))
