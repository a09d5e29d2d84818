"""``maskrcnn train``: what it refuses before it trains, and trainings on real photos."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn_lib.checkpoint.files import read_checkpoint
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.engine.events import read_records
from maskrcnn_lib.engine.inference import build_detector
from maskrcnn_lib.engine.preflight import check_test_classes
from maskrcnn_lib.engine.training import run_training
from maskrcnn_lib.tools import train_net
from maskrcnn_lib.tools.cli import main

CONFIG = "d2go/mask_rcnn_fbnetv3a_C4"


def _write_data(folder, categories=("blue", "red"), images=4):
    """Images of 40 x 30 with one box each."""
    (folder / "images").mkdir(parents=True)
    content = {"images": [], "annotations": []}
    content["categories"] = [{"id": 7 + i, "name": name} for i, name in enumerate(categories)]
    for i in range(images):
        Image.fromarray(np.full((30, 40, 3), 40 * i, np.uint8)).save(folder / f"images/{i}.png")
        entry = {"id": i + 1, "file_name": f"{i}.png", "height": 30, "width": 40}
        content["images"].append(entry)
        corners = [5, 5, 25, 5, 25, 20, 5, 20]
        content["annotations"].append(
            {"id": i + 1, "image_id": i + 1, "category_id": 7 + i % len(categories), "iscrowd": 0}
            | {"bbox": [5, 5, 20, 15], "area": 300, "segmentation": [corners]}
        )
    (folder / "labels.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(autouse=True)
def logger_as_before():
    """Commands make the package's logger write to files of their own."""
    logger = logging.getLogger("maskrcnn_lib")
    before = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])


@pytest.fixture
def shapes(tmp_path):
    return _write_data(tmp_path / "shapes")


def _command(data, output, *overrides, val=None):
    line = ["--config-file", CONFIG, "--weights", "", "--train-json", str(data / "labels.json")]
    line += ["--train-images", str(data / "images")]
    if val is not None:
        line += ["--val-json", str(val / "labels.json"), "--val-images", str(val / "images")]
    settings = ["SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 4, "SOLVER.STEPS", "()"]
    settings += ["SOLVER.WARMUP_ITERS", 1, "OUTPUT_DIR", output, "DATALOADER.NUM_WORKERS", 0]
    return ["train", *line, *map(str, [*settings, *overrides])]


def test_a_warmup_longer_than_the_run_is_refused(shapes, tmp_path, capsys):
    assert main(_command(shapes, tmp_path / "out", "SOLVER.WARMUP_ITERS", 500)) == 1
    assert "warm-up of 500 iterations is not over" in capsys.readouterr().err


def test_a_class_count_that_disagrees_is_refused_with_both_numbers(shapes, tmp_path, capsys):
    overrides = ("MODEL.ROI_BOX_HEAD.NUM_CLASSES", 5)
    assert main(_command(shapes, tmp_path / "out", *overrides)) == 1
    text = capsys.readouterr().err
    assert "NUM_CLASSES is 5" in text and "makes 3" in text


def test_test_data_of_other_classes_are_refused(shapes, tmp_path, capsys):
    other = _write_data(tmp_path / "other", categories=("cat", "dog", "cow"))
    assert main(_command(shapes, tmp_path / "out", val=other)) == 1
    assert "share no name" in capsys.readouterr().err


def test_a_misspelt_class_of_the_test_data_is_pointed_out(caplog):
    dataset = Namespace(categories={1: "blue", 2: "rde"})
    check_test_classes(("__background", "blue", "red"), {"val": dataset})
    assert "'rde'" in caplog.text and "training data's 'red'" in caplog.text


@pytest.mark.parametrize("proposes", [True, False])
def test_models_that_only_propose_are_tested_on_any_classes(shapes, tmp_path, proposes):
    other = _write_data(tmp_path / "other", categories=("cat", "dog", "cow"))
    named = {"TRAIN": shapes, "TEST": other}
    keys = ["MODEL.RPN_ONLY", proposes, "OUTPUT_DIR", str(tmp_path / "out")]
    keys += ["SOLVER.MAX_ITER", 4, "SOLVER.STEPS", (), "SOLVER.WARMUP_ITERS", 1]
    for phase, data in named.items():
        keys += [f"DATASETS.{phase}", (f"coco:{data / 'labels.json'}:{data / 'images'}",)]

    class BuiltError(Exception):
        pass

    def build(cfg):
        raise BuiltError

    error, message = (BuiltError, None) if proposes else (ValueError, "share no name")
    with pytest.raises(error, match=message):
        run_training(
            get_cfg(None, keys), device=torch.device("cpu"), given=["DATASETS.TRAIN"], build=build
        )


def test_a_directory_that_holds_a_training_is_refused_without_resume(shapes, tmp_path, capsys):
    output = tmp_path / "out"
    output.mkdir()
    (output / "last_checkpoint").write_text("model.pth")
    assert main(_command(shapes, output)) == 1
    assert "--resume goes on with it" in capsys.readouterr().err


def test_annotations_without_images_are_refused(capsys):
    assert main(["train", "--config-file", CONFIG, "--train-json", "a.json"]) == 1
    assert "--train-images" in capsys.readouterr().err


def test_a_run_is_started_as_several_processes(monkeypatch):
    started = []
    monkeypatch.setattr("torch.distributed.run.main", started.append)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    line = ["--config-file", CONFIG, "--resume", "--weights", "w.pth"]
    parser = ArgumentParser()
    train_net.add_arguments(parser)
    args = parser.parse_args([*line, "--num-gpus", "2"], Namespace(opts=["MODEL.DEVICE", "cpu"]))
    assert train_net.run(args) == 0
    (command,) = started
    assert "--nproc-per-node=2" in command and "--num-gpus" not in command
    again = command[command.index("maskrcnn_lib.tools.train_net") + 1 :]
    assert again[-2:] == ["MODEL.DEVICE", "cpu"]
    assert parser.parse_args(again[:-2]) == parser.parse_args(line)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("pass", 0),
        ("sys.exit(3 if os.environ['LOCAL_RANK'] == '1' else time.sleep(60))", 3),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137),
        # Ctrl-C comes to the one that has launched the others
        ("os.environ['LOCAL_RANK'] == '1' and os.kill(os.getppid(), 2); time.sleep(60)", 130),
        ("os.environ['LOCAL_RANK'] == '1' and os.kill(os.getppid(), 15); time.sleep(60)", 143),
    ],
)
def test_the_end_of_the_processes_is_the_command_s(code, expected, tmp_path):
    (tmp_path / "several_processes.py").write_text(f"import os, signal, sys, time\n{code}\n")
    command = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    command += "from maskrcnn_lib.tools.launch import launch; "
    command += "sys.exit(launch('several_processes', [], 2))"
    places = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", command],
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == expected, done.stderr
    assert "ChildFailedError" not in done.stderr and "SignalException" not in done.stderr


def test_more_processes_than_gpus_are_refused(monkeypatch, capsys):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["train", "--config-file", CONFIG, "--num-gpus", "2"]) == 1
    assert "--num-gpus 2, but this machine has no GPU" in capsys.readouterr().err


# --- trainings on real photos


@pytest.fixture(scope="module")
def half_empty(test_data, tmp_path_factory):
    """Balloon photos of one size, every second one without its annotations.

    Padding reaches into the borders of what is seen, and one rank pads less than two images of
    different sizes need.
    """
    content = json.loads((test_data / "balloon" / "instances_train.json").read_text())
    sizes = Counter((image["width"], image["height"]) for image in content["images"])
    (common, _), *_ = sizes.most_common(1)
    chosen = [i for i in content["images"] if (i["width"], i["height"]) == common]
    kept = {image["id"] for image in chosen[1::2]}
    content["images"] = chosen
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    path = tmp_path_factory.mktemp("balloon") / "half.json"
    path.write_text(json.dumps(content))
    return path


class _Runs:
    def __init__(self, data, annotations):
        self.data, self.annotations = data, annotations

    def start(self, output, *options, processes=1, restarts=0, overrides=()):
        data = self.data
        line = ["--config-file", CONFIG, "--train-json", self.annotations]
        line += ["--train-images", data / "balloon" / "train", *options]
        line += ["--weights", data / "weights" / "mask_rcnn_fbnetv3a_float.pth"]
        settings = {
            "SOLVER.IMS_PER_BATCH": 2,
            "SOLVER.BASE_LR": 1e-6,  # small, so that rounding does not change which boxes are kept
            "SOLVER.MAX_ITER": 6,
            "SOLVER.STEPS": "(5,)",
            "SOLVER.WARMUP_ITERS": 2,
            "SOLVER.CHECKPOINT_PERIOD": 2,
            "SOLVER.LOG_PERIOD": 1,
            "SOLVER.EMA_DECAY": 0.9,
            "INPUT.MIN_SIZE_TRAIN": "(96,)",
            "INPUT.MIN_SIZE_TEST": 96,
            "DATALOADER.KEEP_EMPTY": True,
            "DATALOADER.NUM_WORKERS": 1,
            "MODEL.DEVICE": "cpu",
            "MODEL.RPN.POST_NMS_TOP_N_TRAIN": 100,
            "OUTPUT_DIR": output,
        }
        line += [part for pair in settings.items() for part in pair]
        launcher = ["-m", "torch.distributed.run", "--standalone"]
        launcher += [f"--nproc-per-node={processes}", f"--max-restarts={restarts}"]
        command = [sys.executable, *(launcher if processes > 1 else [])]
        command += ["-m", "maskrcnn_lib.tools.train_net", *line, *overrides]
        return subprocess.Popen(
            list(map(str, command)),
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, output, *options, **settings):
        process = self.start(output, *options, **settings)
        text, _ = process.communicate(timeout=400)
        assert process.returncode == 0, text
        return text


@pytest.fixture(scope="module")
def runs(test_data, half_empty):
    return _Runs(test_data, half_empty)


@pytest.fixture(scope="module")
def uninterrupted(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    runs.finish(folder)
    return folder


def _wait_for_lines(path, count, process):
    started = time.monotonic()
    while len(read_records(path)) < count:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() - started < 300
        time.sleep(0.01)


def _losses(folder):
    return [
        {name: value for name, value in record.items() if name.startswith("loss")}
        for record in read_records(folder / "metrics.jsonl")
        if "loss" in record
    ]


def _assert_same(first, second):
    first, second = (read_checkpoint(folder / "model_final.pth") for folder in (first, second))
    for key in ("model", "training_weights"):
        assert first[key].keys() == second[key].keys()
        for name, value in first[key].items():
            assert torch.equal(value, second[key][name]), name
    states = (content["optimizer"]["state"] for content in (first, second))
    for mine, other in zip(*(state.values() for state in states), strict=True):
        assert torch.equal(mine["momentum_buffer"], other["momentum_buffer"])


def test_a_killed_training_on_real_photos_resumes_to_the_same_bits(runs, uninterrupted, tmp_path):
    for lines in (3, 5):
        options = ["--resume"] if lines > 3 else []
        process = runs.start(tmp_path, *options)
        _wait_for_lines(tmp_path / "metrics.jsonl", lines, process)
        process.kill()
        process.communicate()
    text = runs.finish(tmp_path, "--resume")
    assert "going on after iteration " in text
    _assert_same(uninterrupted, tmp_path)
    assert _losses(uninterrupted) == _losses(tmp_path)


def test_two_ranks_have_the_losses_of_one_on_real_photos(runs, uninterrupted, tmp_path):
    runs.finish(tmp_path, processes=2)
    alone, together = _losses(uninterrupted), _losses(tmp_path)
    assert len(alone) == len(together) == 6
    for mine, other in zip(alone, together, strict=True):
        assert mine == pytest.approx(other, rel=1e-5, abs=1e-6)
    assert (tmp_path / "log.txt.rank1").is_file()


@pytest.mark.slow
def test_a_run_whose_process_dies_is_restarted_and_goes_on(runs, tmp_path):
    runs.finish(tmp_path / "whole", processes=2)
    process = runs.start(tmp_path / "broken", processes=2, restarts=1)
    _wait_for_lines(tmp_path / "broken" / "metrics.jsonl", 3, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert "going on after iteration " in text
    _assert_same(tmp_path / "whole", tmp_path / "broken")


def test_a_training_leaves_its_files_and_a_usable_model(runs, test_data, tmp_path):
    data = test_data / "balloon"
    options = ["--val-json", data / "instances_val.json", "--val-images", data / "val"]
    text = runs.finish(tmp_path, *options, overrides=["DTYPE", "bfloat16"])
    for part in ("loading", "reinitialised     6", "eta: ", "balloon", "APs"):
        assert part.lower() in text.lower(), part
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files >= {
        *("config.yaml", "labels.json", "log.txt", "metrics.jsonl", "results.csv"),
        *("model_final.pth", "model_final.safetensors", "model_best.pth", "last_checkpoint"),
        *("labels.jpg", "train_batch0.jpg", "val_batch0_pred.jpg", "results.png"),
        *(f"inference/instances_val/{n}" for n in ("bbox.json", "segm.json", "per_class.csv")),
    }
    assert get_cfg(tmp_path / "config.yaml").SOLVER.MAX_ITER == 6
    evaluations = [r for r in read_records(tmp_path / "metrics.jsonl") if "loss" not in r]
    assert 0 <= evaluations[-1]["instances_val/segm/AP"] <= 1
    command = ["test", "--config-file", str(tmp_path / "config.yaml"), "--output"]
    command += [str(tmp_path / "again"), "--weights", str(tmp_path / "model_final.safetensors")]
    assert main(command) == 0
    measured = json.loads((tmp_path / "again/instances_val/coco_results.json").read_text())
    expected = evaluations[-1]["instances_val/segm/AP"]
    # frozen norms are folded into the weights here, which rounds bfloat16 differently
    assert measured["segm"]["AP"] == pytest.approx(expected, abs=0.02)


def test_keypoints_get_number_names_and_lines_from_the_data(tmp_path):
    """A bird of three points is learned, kept with the run, and found with its skeleton."""
    data = _write_data(tmp_path / "birds", categories=("bird",))
    content = json.loads((data / "labels.json").read_text())
    names = ["head", "left_wing", "right_wing"]
    content["categories"][0] |= {"keypoints": names, "skeleton": [[1, 2], [1, 3]]}
    for entry in content["annotations"]:
        entry |= {"keypoints": [15, 7, 2, 22, 15, 2, 8, 15, 1], "num_keypoints": 3}
    (data / "labels.json").write_text(json.dumps(content))
    command = _command(data, tmp_path / "run", "SOLVER.MAX_ITER", 2, "SOLVER.BASE_LR", 1e-6)
    command[command.index(CONFIG)] = "d2go/keypoint_rcnn_fbnetv3a_dsmask_C4"
    assert main(command) == 0
    records = read_records(tmp_path / "run" / "metrics.jsonl")
    assert any(record.get("loss_kp", 0) > 0 for record in records)
    cfg = get_cfg(tmp_path / "run" / "config.yaml", ["MODEL.ROI_HEADS.SCORE_THRESH", 0.0])
    assert cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_CLASSES == 3
    detector = build_detector(cfg, tmp_path / "run" / "model_final.pth")
    (found,) = detector([np.zeros((30, 40, 3), np.uint8)])
    keypoints = found.get_field("keypoints")
    assert keypoints.NAMES == tuple(names)
    assert keypoints.CONNECTIONS == ((0, 1), (0, 2))
    assert keypoints.keypoints.shape == (len(found), 3, 3)
