"""The records of trainings side by side: series of one key, and how long iterations took."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from maskrcnn_lib.engine.events import Record, read_records

_RECORDS = "metrics.jsonl"
_ITERATION = "iteration"
# Where detectron2 and mmdetection write their records, and what they call what is in them.
_FOREIGN_RECORDS = ("metrics.json", "vis_data/scalars.json", "*/vis_data/scalars.json")
_NAMES = {"total_loss": "loss", "data_time": "data"}


@dataclass(frozen=True)
class TrainingRun:
    """What one training wrote.

    Attributes:
        name: tells it from the other runs.
        records: of its ``metrics.jsonl``.
    """

    name: str
    records: Sequence[Record]


@dataclass(frozen=True)
class TrainingTimes:
    """How long the iterations of one run took; all times in seconds.

    Attributes:
        iterations: how many are counted.
        mean: of one iteration.
        std: of the records' means, each weighed by its iterations.
        fastest, slowest: mean of the fastest and of the slowest record.
        fastest_at, slowest_at: last iterations of these.
        data: of ``mean``, the time spent on waiting for images.
        total: of all iterations that are counted; evaluations and checkpoints are no part of it.
    """

    iterations: int
    mean: float
    std: float
    fastest: float
    fastest_at: int
    slowest: float
    slowest_at: int
    data: float
    total: float


def read_runs(paths: Sequence[str | Path], names: Sequence[str] = ()) -> list[TrainingRun]:
    """Reads the records of trainings.

    Args:
        paths: ``metrics.jsonl`` files, or the directories that hold one; also detectron2's
            ``metrics.json`` and mmdetection's (3.x) ``scalars.json``, whose losses and times are
            renamed as here, and whose other keys stay what they are.
        names: one for each; by default the names of the directories, with as much of the path as
            tells them apart.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file holds no record; there are not as many names as paths.
    """
    files = [_records_file(Path(path)) for path in paths]
    if names and len(names) != len(files):
        raise ValueError(f"{len(names)} names for {len(files)} runs: give one for each")
    runs = []
    for file, name in zip(files, names or _short_names(files), strict=True):
        if not file.is_file():
            raise FileNotFoundError(f"no records of a training at {file}")
        records = read_records(file) or _records_of_mmdetection(file)
        if not records:
            raise ValueError(f"{file} holds no record of a training: lines of JSON are expected")
        renamed = [{_NAMES.get(key, key): r[key] for key in r} for r in records]
        runs.append(TrainingRun(name, renamed))
    return runs


def _records_file(path: Path) -> Path:
    """The file of records in a run's directory; of several starts of mmdetection, the last."""
    if not path.is_dir():
        return path
    for pattern in _FOREIGN_RECORDS if not (path / _RECORDS).is_file() else ():
        found = sorted(path.glob(pattern))
        if found:
            return found[-1]
    return path / _RECORDS


def _records_of_mmdetection(file: Path) -> list[Record]:
    """Records with the iteration, which mmdetection's evaluations do not have: they follow it."""
    records: list[Record] = []
    iteration = 0
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # has been warned of
        if not isinstance(entry, dict) or "step" not in entry:
            continue
        if "epoch" in entry:
            iteration = entry["step"]
        else:  # an evaluation, whose step is the epoch and whose times are of images
            entry = {key: entry[key] for key in entry if key not in ("time", "data_time")}
        records.append({**entry, _ITERATION: iteration})
    return records


def _short_names(files: Sequence[Path]) -> list[str]:
    folders = [file.resolve().parent.parts for file in files]
    if len(set(files)) < len(files):
        raise ValueError("a file is named twice")
    for length in range(1, max(map(len, folders), default=1) + 1):
        names = ["/".join(parts[-length:]) for parts in folders]
        if len(set(names)) == len(names):
            return names
    return [str(file) for file in files]  # several files in one directory


def find_key(records: Sequence[Record], key: str) -> str | None:
    """The full name of a key in records, of which the end is enough: ``bbox/AP`` for
    ``val/bbox/AP``; None where there is none.

    Raises:
        ValueError: several keys end like this.
    """
    names = {name for record in records for name in record}
    if key in names:
        return key
    ending = sorted(name for name in names if name.endswith(f"/{key}"))
    if len(ending) > 1:
        raise ValueError(f"{key} may be {' or '.join(ending)}: write one of them")
    return ending[0] if ending else None


def series_of(runs: Sequence[TrainingRun], key: str) -> dict[str, np.ndarray]:
    """The values of a key over the iterations, per name of the runs that have it.

    Returns:
        (N, 2) float64 each: iteration, value.

    Raises:
        KeyError: no run has it; the error names those that are written nearly like it.
        ValueError: several keys of a run end like this.
    """
    series = {}
    for run in runs:
        name = find_key(run.records, key)
        if name is not None:
            points = [(r[_ITERATION], r[name]) for r in run.records if name in r]
            series[run.name] = np.array(points, dtype=np.float64)
    if not series:
        names = {name for run in runs for record in run.records for name in record}
        raise KeyError(f"no run has a key {key!r}; {_advice(key, sorted(names - {_ITERATION}))}")
    return series


def _advice(key: str, names: Sequence[str]) -> str:
    ends = {"/".join(name.split("/")[-2:]): name for name in names}
    near = get_close_matches(key, [*names, *ends], n=4)
    near = list(dict.fromkeys(ends.get(name, name) for name in near))
    return f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(names)}"


def smoothed(points: np.ndarray, window: int) -> np.ndarray:
    """Each value replaced by the mean of the last ``window`` finite ones up to it.

    Args:
        points: (N, 2) iteration, value.
        window: in records; the first ones have fewer before them. 1 changes nothing.

    Returns:
        (N, 2); NaN where no value in the window is finite.

    Raises:
        ValueError: ``window`` is below 1.
    """
    if window < 1:
        raise ValueError(f"smoothing is over at least 1 record, not {window}")
    if window == 1:
        return points
    values = np.pad(points[:, 1], (window - 1, 0), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(values, window)  # (N, window)
    is_finite = np.isfinite(windows)
    with np.errstate(invalid="ignore"):
        means = np.where(is_finite, windows, 0).sum(axis=1) / is_finite.sum(axis=1)
    return np.stack([points[:, 0], means], axis=1)


def training_times(run: TrainingRun, *, include_first: bool = False) -> TrainingTimes:
    """How long the iterations of a run took.

    Args:
        run: whose records carry ``time``, the mean seconds of the iterations since the record
            before, and ``data``, of these the wait for images.
        include_first: count the first record, in which a training warms up, where there are others.

    Raises:
        KeyError: no record carries ``time``.
    """
    timed = [record for record in run.records if "time" in record]
    if not timed:
        raise KeyError(f"{run.name}: no record has a key 'time', so there is nothing to time")
    ends = np.array([record[_ITERATION] for record in timed], dtype=np.int64)
    weights = np.diff(ends, prepend=_first_start(ends))
    seconds, data = (np.array([r.get(key, 0.0) for r in timed]) for key in ("time", "data"))
    if len(timed) > 1 and not include_first:
        ends, weights, seconds, data = (part[1:] for part in (ends, weights, seconds, data))
    mean = np.average(seconds, weights=weights)
    fastest, slowest = int(seconds.argmin()), int(seconds.argmax())
    return TrainingTimes(
        iterations=int(weights.sum()),
        mean=float(mean),
        std=float(np.sqrt(np.average((seconds - mean) ** 2, weights=weights))),
        fastest=float(seconds[fastest]),
        fastest_at=int(ends[fastest]),
        slowest=float(seconds[slowest]),
        slowest_at=int(ends[slowest]),
        data=float(np.average(data, weights=weights)),
        total=float(seconds @ weights),
    )


def _first_start(ends: np.ndarray) -> int:
    """The iteration before the first record; a file that begins late has the usual distance."""
    usual = int(np.median(np.diff(ends))) if len(ends) > 1 else int(ends[0])
    return max(0, int(ends[0]) - usual)


def times_table(times: Mapping[str, TrainingTimes]) -> list[list[str]]:
    """Rows of text, the head first: a row per run."""
    head = "iterations s/it std fastest at slowest at data total".split()
    rows = [["run", *head]]
    for name, t in times.items():
        cells = [f"{t.mean:.4f}", f"{t.std:.4f}", f"{t.fastest:.4f}", str(t.fastest_at)]
        cells += [f"{t.slowest:.4f}", str(t.slowest_at), f"{t.data:.4f}"]
        rows.append([name, str(t.iterations), *cells, str(timedelta(seconds=round(t.total)))])
    return rows
