"""What happened in a training, as files: metrics.jsonl, results.csv, TensorBoard.

A record is a flat dict of numbers with an ``iteration``. Records of training carry ``loss``; those
of an evaluation keys such as ``val/segm/AP``. Each file is an observer of the same records.
"""

import csv
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from maskrcnn_lib.checkpoint.native import write_atomically

logger = logging.getLogger(__name__)

Record = Mapping[str, float]


class EventWriter(Protocol):
    """Takes records as they come."""

    def write(self, record: Record) -> None: ...

    def close(self) -> None: ...


class JsonlWriter:
    """One JSON object per line, each on the disk before the next.

    Args:
        path: the file.
        start_iter: iterations that are done already; lines of later ones, which an interrupted run
            left, are removed, because they will come again.
    """

    def __init__(self, path: str | Path, *, start_iter: int = 0) -> None:
        path = Path(path)
        kept = [record for record in read_records(path) if record["iteration"] <= start_iter]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, "".join(f"{json.dumps(record)}\n" for record in kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, record: Record) -> None:
        """Appends a line."""
        self._file.write(f"{json.dumps(dict(record))}\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class CsvWriter:
    """The same records as a table; a column is added when a record brings a new key.

    Args:
        path: the file.
        records: rows to begin with.
    """

    def __init__(self, path: str | Path, *, records: Sequence[Record] = ()) -> None:
        self._path = Path(path)
        self._rows: list[Record] = list(records)
        self._columns = list(dict.fromkeys(key for record in records for key in record))
        self._rewrite()

    def write(self, record: Record) -> None:
        """Appends a row."""
        self._rows.append(dict(record))
        new = [key for key in record if key not in self._columns]
        if new:
            self._columns += new
            self._rewrite()
        else:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerow(record)

    def close(self) -> None:
        """Nothing is held open."""

    def _rewrite(self) -> None:
        with self._path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self._rows)


class TensorBoardWriter:
    """Scalars for TensorBoard.

    Args:
        directory: of the event files.
        start_iter: events of later iterations, which an interrupted run left, are hidden.

    Raises:
        ImportError: TensorBoard is not installed.
    """

    def __init__(self, directory: str | Path, *, start_iter: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(directory), purge_step=start_iter + 1)

    def write(self, record: Record) -> None:
        """Writes each number of the record under its name."""
        for name, value in record.items():
            if name != "iteration":
                self._writer.add_scalar(name, value, int(record["iteration"]))

    def close(self) -> None:
        """Writes out what is buffered."""
        self._writer.close()


class EventLog:
    """Passes records on to its writers, and remembers them.

    Args:
        writers: where records go.
        records: what earlier runs wrote.
    """

    def __init__(self, writers: Sequence[EventWriter] = (), records: Sequence[Record] = ()) -> None:
        self.writers = list(writers)
        self.records: list[Record] = list(records)

    def write(self, record: Record) -> None:
        """Takes a record."""
        self.records.append(dict(record))
        for writer in self.writers:
            writer.write(record)

    def evaluations(self) -> list[Record]:
        """The records of evaluations."""
        return [record for record in self.records if "loss" not in record]

    def close(self) -> None:
        """Closes all writers."""
        for writer in self.writers:
            writer.close()


def open_event_log(directory: str | Path, *, start_iter: int = 0) -> EventLog:
    """The log of a run that writes into ``directory``.

    Args:
        start_iter: iterations that are done already.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "metrics.jsonl"
    lines = JsonlWriter(path, start_iter=start_iter)
    records = read_records(path)
    writers: list[EventWriter] = [lines, CsvWriter(directory / "results.csv", records=records)]
    try:
        writers.append(TensorBoardWriter(directory, start_iter=start_iter))
    except ImportError as error:
        logger.info("No curves for TensorBoard, it is not installed (%s)", error)
    return EventLog(writers, records)


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; a last line that was cut off is left out.

    Where iterations come again, as after a run was begun anew from an earlier checkpoint, the later
    lines count.

    Returns:
        The records by ascending iteration; none where there is no file.
    """
    path = Path(path)
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            logger.warning("%s: a line that is not JSON is left out: %.60r", path, line)
    return _without_repetitions(
        record for record in records if isinstance(record, dict) and "iteration" in record
    )


def _without_repetitions(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    for record in records:
        start = len(kept)
        while start and kept[start - 1]["iteration"] >= record["iteration"]:
            start -= 1
        # a training's and an evaluation's record of one iteration stand beside each other
        while start < len(kept) and not _comes_again(kept[start], record):
            start += 1
        kept[start:] = [record]
    return kept


def _comes_again(earlier: Record, later: Record) -> bool:
    is_same = later["iteration"] == earlier["iteration"]
    return not is_same or len(later.keys() & earlier.keys()) > 1
