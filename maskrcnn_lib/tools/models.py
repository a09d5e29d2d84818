"""``maskrcnn models``: the configs, what the authors published of each model, and its weights.

Figures are average precision in percent on COCO's val2017 as the authors state it (of "prop." the
average recall of 1000 proposals), not measured here. Any name of weights goes to ``--weights`` with
``catalog://`` in front.
"""

import argparse
from collections.abc import Iterable, Sequence

from maskrcnn_lib.config import list_configs
from maskrcnn_lib.config.model_entries import ModelEntry
from maskrcnn_lib.config.paths_catalog import ModelCatalog

_TASKS = {"box": "box", "mask": "mask", "keypoint": "keyp.", "proposal": "prop."}
_NO_CONFIG = "(no config here)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options."""
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="show only lines that contain all of these"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the table; returns the exit code: 1 where no line has all the words."""
    wanted = [word.lower() for word in args.words]
    rows = [row for row in _rows() if all(word in " ".join(row).lower() for word in wanted)]
    if not rows:
        print(f"no model's line contains {' and '.join(args.words)}")
        return 1
    print(_table([("config", *_TASKS.values(), "weights", "file"), *rows]))
    return 0


def _rows() -> Iterable[tuple[str, ...]]:
    """One row for each config and its weights, then the weights that have no config."""
    with_config = set()
    for config in list_configs():
        entries = ModelCatalog.for_config(config)
        with_config.update(entry.name for entry in entries)
        if not entries:
            yield (config, *("" for _ in _TASKS), "-", "-")
        for entry in entries:
            yield _row(config, entry)
    for name in ModelCatalog.names():
        if name not in with_config:
            yield _row(_NO_CONFIG, ModelCatalog.entry(name))


def _row(config: str, entry: ModelEntry) -> tuple[str, ...]:
    figures = (f"{entry.published[task]:.1f}" if task in entry.published else "" for task in _TASKS)
    place = "download" if entry.url else "by hand"
    return (config, *figures, entry.name, f"{entry.file_name} ({place})")


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns of equal width, the figures flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first_text, last_text = 0, 1 + len(_TASKS)
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if not first_text < index < last_text else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
