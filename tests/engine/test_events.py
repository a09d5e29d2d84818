"""Records reach every file, and a run that resumes does not write them twice."""

import csv
import json

import pytest

from maskrcnn_lib.engine.events import CsvWriter, open_event_log, read_records


def _write(directory, iterations, *, start_iter=0):
    log = open_event_log(directory, start_iter=start_iter)
    for iteration in iterations:
        log.write({"iteration": iteration, "loss": iteration / 3, "lr": 0.1})
    log.close()
    return log


def _rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_json_lines_and_table_hold_the_same_numbers(tmp_path):
    _write(tmp_path, [10, 20])
    records = read_records(tmp_path / "metrics.jsonl")
    assert records == [{"iteration": i, "loss": i / 3, "lr": 0.1} for i in (10, 20)]
    rows = [
        {key: float(value) for key, value in row.items()} for row in _rows(tmp_path / "results.csv")
    ]
    assert rows == records


def test_a_run_that_resumes_removes_what_it_will_write_again(tmp_path):
    _write(tmp_path, [10, 20, 30])
    log = _write(tmp_path, [20, 30], start_iter=15)
    assert [record["iteration"] for record in read_records(tmp_path / "metrics.jsonl")] == [
        10,
        20,
        30,
    ]
    assert [row["iteration"] for row in _rows(tmp_path / "results.csv")] == ["10", "20", "30"]
    assert [record["iteration"] for record in log.records] == [10, 20, 30]


def test_a_new_run_in_an_old_directory_begins_its_files_anew(tmp_path):
    _write(tmp_path, [10, 20])
    _write(tmp_path, [5])
    assert [record["iteration"] for record in read_records(tmp_path / "metrics.jsonl")] == [5]


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"iteration": 1, "loss": 2.0}\n{"iteration": 2, "lo')
    assert read_records(path) == [{"iteration": 1, "loss": 2.0}]
    assert read_records(tmp_path / "nothing.jsonl") == []


def test_of_iterations_that_come_again_the_later_lines_count(tmp_path):
    def line(iteration, loss=None):
        measured = {"val/bbox/AP": 0.5} if loss is None else {"loss": loss}
        return {"iteration": iteration, **measured}

    first = [line(10, 1.0), line(20, 0.9), line(20), line(30, 0.8)]
    # begun again from the checkpoint of iteration 10, then from that of iteration 20
    again = [line(20, 0.7), line(20), line(30, 0.6), line(40, 0.5), line(30, 0.4), line(40, 0.3)]
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(map(json.dumps, [*first, *again])))
    assert read_records(path) == [first[0], again[0], again[1], again[4], again[5]]


def test_a_new_key_adds_a_column_to_the_table(tmp_path):
    writer = CsvWriter(tmp_path / "r.csv")
    writer.write({"iteration": 1, "loss": 2.0})
    writer.write({"iteration": 1, "val/segm/AP": 0.5})
    writer.write({"iteration": 2, "loss": 1.0})
    assert _rows(tmp_path / "r.csv") == [
        {"iteration": "1", "loss": "2.0", "val/segm/AP": ""},
        {"iteration": "1", "loss": "", "val/segm/AP": "0.5"},
        {"iteration": "2", "loss": "1.0", "val/segm/AP": ""},
    ]


def test_evaluations_are_told_from_training(tmp_path):
    log = open_event_log(tmp_path)
    log.write({"iteration": 1, "loss": 2.0})
    log.write({"iteration": 1, "val/segm/AP": 0.5})
    log.close()
    assert log.evaluations() == [{"iteration": 1, "val/segm/AP": 0.5}]
    assert len(json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[1])) == 2


def test_tensorboard_gets_the_scalars_where_it_is_installed(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _write(tmp_path, [10, 20])
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [10, 20]
