"""Curves of a training and statistics of its labels, as pictures. Needs matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_SHOWN_CLASSES = 60
_PLOT_SIZE = (5.0, 3.4)  # inches
_SCORES = ("AP", "AP50", "AP75")
_PLOTS_BESIDE = 3
_POINTS = 400  # of a curve: more are not seen
_FAINT = 0.25  # opacity of the records that a long curve is the mean of
_COLORS, _LINES = 10, ("-", "--", "-.", ":")  # matplotlib's colours; then other lines


def draw_curves(records: Sequence[Mapping[str, float]], path: str | Path) -> None:
    """Draws losses, learning rate, gradient norm and average precision over the iterations.

    Args:
        records: of ``metrics.jsonl``: dicts of numbers with an ``iteration``.
        path: picture file; its ending says the format.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure, plots = _figure(2, 2)
    names = list(dict.fromkeys(name for record in records for name in record))
    groups = {
        "losses": [name for name in names if name.startswith("loss")],
        "learning rate": [name for name in names if name == "lr"],
        "norm of the gradients": [name for name in names if name == "grad_norm"],
        "average precision": [name for name in names if name.split("/")[-1] in _SCORES],
    }
    for plot, (title, members) in zip(plots, groups.items(), strict=True):
        plot.set_title(title)
        plot.set_xlabel("iteration")
        for name in members:
            points = np.array([(r["iteration"], r[name]) for r in records if name in r], float)
            curve = shortened(points)
            marker = "o" if len(points) < 2 or "/" in name else ""
            (line,) = plot.plot(*curve.T, marker=marker, markersize=3, label=name)
            if len(curve) < len(points):
                plot.plot(*points.T, color=line.get_color(), alpha=_FAINT, linewidth=0.5)
        if len(members) > 1:
            plot.legend(fontsize=7)
        plot.grid(alpha=0.3)
    figure.savefig(str(path))


def shortened(points: np.ndarray, most: int = _POINTS) -> np.ndarray:
    """At most so many points: of more, the means of neighbouring ones.

    Args:
        points: (N, 2) iteration, value.
        most: points to be left.

    Returns:
        (M, 2) float64, M <= most.
    """
    together = -(-len(points) // most)
    if together < 2:
        return points
    starts = range(together, len(points), together)
    return np.array([part.mean(axis=0) for part in np.split(points, starts)])


def draw_runs(
    series: Mapping[str, Mapping[str, np.ndarray]], path: str | Path, *, title: str = ""
) -> None:
    """Draws numbers of several trainings over their iterations: a plot per key, a colour per run.

    Args:
        series: per key, per name of a run (N, 2) iterations and values; NaN leaves a gap.
        path: picture file; its ending says the format.
        title: over the whole picture.

    Raises:
        ImportError: matplotlib is not installed.
    """
    names = list(dict.fromkeys(name for of_key in series.values() for name in of_key))
    columns = min(len(series), _PLOTS_BESIDE)
    figure, plots = _figure(-(-len(series) // columns), columns)
    for plot in plots[len(series) :]:
        plot.set_axis_off()
    for plot, (key, of_key) in zip(plots, series.items(), strict=False):
        for name, points in of_key.items():
            place = names.index(name)
            style = _LINES[place // _COLORS % len(_LINES)]
            marker = "o" if len(points) < 2 or "/" in key else ""
            color = f"C{place % _COLORS}"
            plot.plot(*points.T, style, color=color, marker=marker, markersize=3, label=name)
        plot.set_title(key)
        plot.set_xlabel("iteration")
        plot.legend(fontsize=7)
        plot.grid(alpha=0.3)
    figure.suptitle(title or None)
    figure.savefig(str(path))


def draw_label_statistics(counts: Mapping[str, int], boxes: np.ndarray, path: str | Path) -> None:
    """Draws how many objects each class has, and how large objects are.

    Args:
        counts: objects per class name; of many classes the most frequent are shown.
        boxes: (N, 2) widths and heights relative to those of the image.
        path: picture file; its ending says the format.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure, (bars, sizes) = _figure(1, 2)
    shown = sorted(counts.items(), key=lambda item: -item[1])[:_SHOWN_CLASSES]
    names, values = [name for name, _ in shown], [value for _, value in shown]
    bars.bar(range(len(shown)), values)
    bars.set_xticks(range(len(shown)), names, rotation=90, fontsize=max(4, 9 - len(shown) // 10))
    bars.set_title("objects per class")
    if len(boxes):
        sizes.hist2d(boxes[:, 0], boxes[:, 1], bins=40, range=[[0, 1], [0, 1]], cmin=1)
    sizes.set_title("sizes of boxes relative to the image")
    sizes.set_xlabel("width")
    sizes.set_ylabel("height")
    figure.savefig(str(path))


def _figure(rows: int, columns: int) -> tuple[Any, list[Any]]:
    """A figure that belongs to no window, and its plots."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (_PLOT_SIZE[0] * columns, _PLOT_SIZE[1] * rows)
    figure = Figure(figsize=size, layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    return figure, list(np.ravel(figure.subplots(rows, columns)))
