"""``maskrcnn plot``: curves of trainings, and the table of their times."""

import json

import numpy as np
import pytest
from PIL import Image

from maskrcnn_lib.report.training_runs import (
    TrainingRun,
    read_runs,
    series_of,
    smoothed,
    training_times,
)
from maskrcnn_lib.tools.cli import main

pytest.importorskip("matplotlib")

BLUE, ORANGE = (31, 119, 180), (255, 127, 14)  # the first two colours of matplotlib


@pytest.fixture
def runs(tmp_path):
    """Two trainings that log every 10 iterations and evaluate twice; the second on other data."""
    for name, height in (("slow", 1.0), ("fast", 3.0)):
        rng = np.random.default_rng(len(name) + int(height))
        lines = []
        for step in range(1, 41):
            loss, seconds = height / step, float(rng.uniform(0.1, 0.5))
            lines.append({"iteration": 10 * step, "loss": loss, "time": seconds, "data": 0.01})
            if step % 20 == 0:
                lines.append({"iteration": 10 * step, f"{name}_val/bbox/AP": 0.01 * step})
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


def _pixels(path, color):
    """How many pixels have a colour, and the mean row of those."""
    image = np.asarray(Image.open(path).convert("RGB")).astype(int)
    rows, _ = np.nonzero(np.abs(image - color).max(axis=2) < 12)
    return len(rows), rows.mean() if len(rows) else None


def test_each_run_has_a_curve_of_its_colour(runs, capsys):
    path = runs / "curve.png"
    both = [str(runs / "slow"), str(runs / "fast" / "metrics.jsonl")]
    assert main(["plot", *both, "--keys", "loss", "--out", str(path)]) == 0
    (first, low), (second, high) = _pixels(path, BLUE), _pixels(path, ORANGE)
    assert first > 300 and second > 300
    assert high < low  # the second's loss is three times as high; rows count downwards
    main(["plot", both[0], "--out", str(path)])
    assert _pixels(path, BLUE)[0] > 300 and _pixels(path, ORANGE)[0] == 0
    assert f"written: {path}" in capsys.readouterr().out


def test_each_key_has_a_plot_and_its_end_is_enough(runs):
    path, command = runs / "curve.png", ["plot", str(runs / "slow"), str(runs / "fast")]
    main([*command, "--keys", "loss", "--out", str(path)])
    width, before = Image.open(path).width, _pixels(path, ORANGE)[0]
    assert main([*command, "--keys", "loss", "bbox/AP", "--out", str(path), "--title", "T"]) == 0
    assert Image.open(path).width == 2 * width
    assert _pixels(path, ORANGE)[0] > before + 100


def test_a_run_without_a_key_is_named(runs, capsys):
    (runs / "new").mkdir()
    (runs / "new" / "metrics.jsonl").write_text('{"iteration": 1, "loss": 2}')
    command = ["plot", str(runs / "new"), str(runs / "slow"), "--keys", "bbox/AP"]
    assert main([*command, "--out", str(runs / "curve.png")]) == 0
    assert "new has no bbox/AP" in capsys.readouterr().out


@pytest.mark.parametrize(("key", "advice"), [("los", "loss"), ("box/AP", "slow_val/bbox/AP")])
def test_an_unknown_key_names_its_neighbours(key, advice, runs, capsys):
    path = runs / "curve.png"
    assert main(["plot", str(runs / "slow"), "--keys", key, "--out", str(path)]) == 1
    assert f"no run has a key {key!r}; did you mean {advice}" in capsys.readouterr().err
    assert not path.exists()


def test_an_end_that_fits_two_keys_is_refused(tmp_path, capsys):
    record = {"iteration": 1, "a/bbox/AP": 0.1, "b/bbox/AP": 0.2}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record))
    assert main(["plot", str(tmp_path), "--keys", "bbox/AP"]) == 1
    assert "a/bbox/AP or b/bbox/AP" in capsys.readouterr().err


def test_missing_empty_and_misnamed_runs_are_refused(runs, capsys):
    (runs / "empty.jsonl").write_text("")
    for arguments, message in (
        ([str(runs / "none")], "no records of a training"),
        ([str(runs / "empty.jsonl")], "holds no record"),
        ([str(runs / "slow"), "--legend", "a", "b"], "2 names for 1 runs"),
    ):
        assert main(["plot", *arguments]) == 1
        assert message in capsys.readouterr().err


def test_runs_are_named_by_what_tells_them_apart(runs):
    for folder in ("a/x", "b/x"):
        (runs / folder).mkdir(parents=True)
        (runs / folder / "metrics.jsonl").write_text('{"iteration": 1}')
    named = [run.name for run in read_runs([runs / "a/x", runs / "b/x"])]
    assert named == ["a/x", "b/x"]
    assert [run.name for run in read_runs([runs / "slow", runs / "fast"])] == ["slow", "fast"]


def test_smoothing_is_the_mean_of_the_last_records():
    values = np.random.default_rng(0).random(50)
    points = np.stack([np.arange(50), values], axis=1)
    means = smoothed(points, 5)
    np.testing.assert_allclose(means[4:, 1], np.convolve(values, np.full(5, 0.2), "valid"))
    np.testing.assert_allclose(means[:4, 1], [values[: i + 1].mean() for i in range(4)])
    points[10, 1] = np.inf
    np.testing.assert_allclose(smoothed(points, 5)[12, 1], values[[8, 9, 11, 12]].mean())
    with pytest.raises(ValueError, match="at least 1"):
        smoothed(points, 0)


@pytest.mark.parametrize("include_first", [False, True])
def test_times_are_those_of_numpy(include_first):
    # records after 10, 20, 30 and, at the end of the training, 34 iterations
    ends, seconds, data = [10, 20, 30, 34], [0.9, 0.2, 0.4, 0.3], [0.5, 0.0, 0.1, 0.2]
    records = [
        {"iteration": end, "time": s, "data": d}
        for end, s, d in zip(ends, seconds, data, strict=True)
    ]
    run = TrainingRun("r", [*records, {"iteration": 34, "val/bbox/AP": 0.1}])
    times = training_times(run, include_first=include_first)
    counts = [10, 10, 10, 4]
    each, waits = (
        np.repeat(part, counts)[0 if include_first else 10 :] for part in (seconds, data)
    )
    assert times.iterations == len(each)
    assert times.mean == pytest.approx(each.mean()) and times.std == pytest.approx(each.std())
    assert times.data == pytest.approx(waits.mean()) and times.total == pytest.approx(each.sum())
    assert (times.fastest, times.fastest_at) == (0.2, 20)
    assert (times.slowest, times.slowest_at) == ((0.9, 10) if include_first else (0.4, 30))


def test_times_of_a_record_that_is_the_only_one_are_counted():
    times = training_times(TrainingRun("r", [{"iteration": 7, "time": 2.0}]))
    assert (times.iterations, times.total, times.mean) == (7, 14.0, 2.0)


def test_times_are_printed_per_run(runs, capsys):
    assert main(["plot", str(runs / "slow"), str(runs / "fast"), "--times"]) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["run", "iterations", "s/it"]
    assert [row.split()[:2] for row in rows] == [["slow", "390"], ["fast", "390"]]
    lines = (runs / "slow" / "metrics.jsonl").read_text().splitlines()
    seconds = [r["time"] for r in map(json.loads, lines) if "time" in r]
    assert float(rows[0].split()[2]) == pytest.approx(np.mean(seconds[1:]), abs=5e-5)
    assert not (runs / "curves.png").exists()


@pytest.fixture
def foreign(tmp_path):
    """The records of other toolboxes, as they write them: two of training, one of an evaluation."""
    mmdet = [
        {
            "lr": 0.02,
            "data_time": 0.1,
            "loss": 2.0,
            "time": 0.5,
            "epoch": 1,
            "iter": 50,
            "step": 50,
        },
        {
            "lr": 0.02,
            "data_time": 0.1,
            "loss": 1.0,
            "time": 0.3,
            "epoch": 1,
            "iter": 100,
            "step": 100,
        },
        {"coco/bbox_mAP": 0.31, "coco/segm_mAP": 0.25, "data_time": 0.9, "time": 1.0, "step": 1},
    ]
    detectron2 = [
        {"iteration": 49, "total_loss": 2.5, "time": 0.4, "data_time": 0.1, "lr": 0.02},
        {"iteration": 89, "total_loss": 1.5, "time": 0.2, "data_time": 0.1, "lr": 0.02},
        {"iteration": 89, "bbox/AP": 31.0},
    ]
    for place, records in (
        ("mmdet/20200101_000000/vis_data/scalars.json", [{"loss": 9.0, "epoch": 1, "step": 1}]),
        ("mmdet/20250102_030405/vis_data/scalars.json", mmdet),
        ("detectron2/metrics.json", detectron2),
    ):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_text("\n".join(map(json.dumps, records)))
    return tmp_path


def test_records_of_other_toolboxes_lie_beside_ours(runs, foreign, capsys):
    mmdet, detectron2 = read_runs([foreign / "mmdet", foreign / "detectron2"], ["m", "d"])
    assert series_of([mmdet, detectron2], "loss")["m"].tolist() == [[50, 2.0], [100, 1.0]]
    assert series_of([mmdet, detectron2], "loss")["d"].tolist() == [[49, 2.5], [89, 1.5]]
    assert series_of([mmdet], "bbox_mAP")["m"].tolist() == [[100, 0.31]]
    assert training_times(mmdet, include_first=True).iterations == 100
    path = foreign / "curve.png"
    both = [str(foreign / "mmdet"), str(foreign / "detectron2")]
    assert main(["plot", *both, "--legend", "old", "older", "--out", str(path)]) == 0
    assert _pixels(path, BLUE)[0] > 100 and _pixels(path, ORANGE)[0] > 100
    assert main(["plot", *both, str(runs / "slow"), "--times"]) == 0
    assert "0.3000" in capsys.readouterr().out  # of mmdetection's second record


def test_times_need_records_with_times(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text('{"iteration": 1, "loss": 2}')
    assert main(["plot", str(tmp_path), "--times"]) == 1
    assert "no record has a key 'time'" in capsys.readouterr().err
