"""Scores as text."""

from collections.abc import Mapping, Sequence

from maskrcnn_lib.evaluation.scores import Scores

_RECALL = "AR"


def percent(value: float) -> str:
    """0.3456 as 34.6; a dash where the data set has nothing to measure on."""
    return "-" if value < 0 else f"{100 * value:.1f}"


def overall_table(scores: Sequence[Scores]) -> str:
    """One line per kind of result with its main numbers in percent.

    Recall is shown for kinds that have nothing else.
    """
    shown = {score.kind: _main_metrics(score) for score in scores}
    columns = list(dict.fromkeys(name for metrics in shown.values() for name in metrics))
    rows = [("", *columns)]
    rows += [(k, *(percent(m[c]) if c in m else "" for c in columns)) for k, m in shown.items()]
    return format_table(rows)


def _main_metrics(score: Scores) -> dict[str, float]:
    precision = {n: value for n, value in score.metrics.items() if not n.startswith(_RECALL)}
    return precision or score.metrics


def per_class_table(per_class: Mapping[str, Mapping[str, float]], columns: int = 3) -> str:
    """AP per class in percent, several classes on a line.

    Args:
        per_class: per kind of result, AP per category name.
        columns: classes on one line.
    """
    kinds = list(per_class)
    names = list(next(iter(per_class.values())))
    rows = [("class", *kinds) * columns]
    cells = [(name, *(percent(per_class[kind][name]) for kind in kinds)) for name in names]
    cells += [("",) * (1 + len(kinds))] * (-len(cells) % columns)
    height = len(cells) // columns
    rows += [sum((cells[row + c * height] for c in range(columns)), ()) for row in range(height)]
    return format_table(rows)


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Aligns cells: the first row is the head, text left and numbers right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(_align(c, w) for c, w in zip(row, widths, strict=True)) for row in rows]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([lines[0].rstrip(), rule, *(line.rstrip() for line in lines[1:])])


def _align(cell: str, width: int) -> str:
    is_number = cell == "-" or cell.replace(".", "", 1).isdigit()
    return cell.rjust(width) if is_number else cell.ljust(width)
