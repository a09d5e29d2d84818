"""The loop: what it computes, what it leaves behind, and how it ends."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from maskrcnn_lib.checkpoint import Checkpointer
from maskrcnn_lib.checkpoint.files import read_checkpoint
from maskrcnn_lib.engine.events import read_records
from maskrcnn_lib.engine.step import TrainingStep
from maskrcnn_lib.engine.trainer import NonFiniteError

SCRIPT = Path(__file__).with_name("tiny_training.py")


def _start(folder, *options):
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, SCRIPT, folder, *map(str, options)],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(process):
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def _ranks(folder, *options):
    processes = [_start(folder, "--rank", r, "--world-size", 2, *options) for r in range(2)]
    return [_finish(process) for process in processes]


def _content(folder, name="model_final.pth"):
    return read_checkpoint(folder / name)


def _assert_same(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        if isinstance(value, dict):
            _assert_same(value, second[key])
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value, second[key]), key
        else:
            assert value == second[key], key


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    # a process like those that are killed: another number of threads adds up in another order
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert _finish(_start(folder))[0] == 0
    return folder


def test_a_run_leaves_its_files(uninterrupted):
    names = {path.name for path in uninterrupted.iterdir() if "tfevents" not in path.name}
    periodic = {f"model_{iteration:07d}.pth" for iteration in (3, 6, 9)}
    final = {"model_final.pth", "model_final.safetensors", "model_best.pth", "last_checkpoint"}
    assert names == periodic | final | {"metrics.jsonl", "results.csv"}
    assert (uninterrupted / "last_checkpoint").read_text() == "model_final.pth"
    content = _content(uninterrupted)
    assert content["iteration"] == 12
    assert content["class_names"] == ["__background", "thing"]
    assert torch.equal(
        content["model"]["conv.weight"],
        _content(uninterrupted, "model_final.safetensors")["model"]["conv.weight"],
    )


def test_records_hold_losses_rates_times_and_evaluations(uninterrupted):
    records = read_records(uninterrupted / "metrics.jsonl")
    training = [record for record in records if "loss" in record]
    assert [record["iteration"] for record in training] == [2, 4, 6, 8, 10, 12]
    for record in training:
        parts = record["loss_width"] + record["loss_small"]
        assert record["loss"] == pytest.approx(parts, rel=1e-5)
        assert record.keys() >= {"lr", "time", "data", "memory_mb", "grad_norm"}
    assert training[0]["lr"] == pytest.approx(0.01 * (1 / 3 + 2 / 9))
    assert training[-1]["lr"] == pytest.approx(0.001)
    evaluations = [record for record in records if "val/bbox/AP" in record]
    assert [record["iteration"] for record in evaluations] == [6, 12]


def test_the_best_model_is_kept_without_the_state_of_the_training(uninterrupted):
    records = read_records(uninterrupted / "metrics.jsonl")
    best = max(
        (record for record in records if "val/bbox/AP" in record), key=lambda r: r["val/bbox/AP"]
    )
    content = _content(uninterrupted, "model_best.pth")
    assert content["iteration"] == best["iteration"]
    assert content["score"] == best["val/bbox/AP"]
    assert "optimizer" not in content


def test_a_model_that_only_proposes_is_best_by_its_recall(tiny, tmp_path):
    recalls = iter((0.5, 0.3, 0.4))

    def evaluate(model):
        return {"val/box_proposal/AR@1000": next(recalls)}

    tiny.train(tmp_path, iterations=6, test_period=2, evaluate=evaluate)
    content = _content(tmp_path, "model_best.pth")
    assert (content["iteration"], content["score"]) == (2, 0.5)
    tiny.train(tmp_path, iterations=6, test_period=2, evaluate=evaluate, resume=True)
    assert list(recalls) == []  # nothing was evaluated anew, and nothing was left


def test_how_many_bad_images_were_replaced_is_said_in_the_end(tiny, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tiny.NoiseDataset, "bad_images", 3, raising=False)
    tiny.train(tmp_path, iterations=2, evaluate=None)
    assert "3 times another image was taken" in caplog.text


def test_log_lines_say_how_it_goes(tiny, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="maskrcnn_lib"):
        tiny.train(tmp_path)
    (line,) = [r.message for r in caplog.records if "iter: 10 " in r.message]
    for part in (
        "eta: 0:00:0",
        "loss: ",
        "loss_width: ",
        "time: ",
        "data: ",
        "lr: 0.001",
        "max mem",
    ):
        assert part in line


@pytest.mark.parametrize("iteration", [1, 4, 7, 11])
def test_a_killed_run_resumes_to_the_same_bits(uninterrupted, tmp_path, iteration):
    code, _ = _finish(_start(tmp_path, "--kill", iteration))
    assert code == -9
    resume = ["--resume"] if iteration > 3 else []
    assert _finish(_start(tmp_path, *resume))[0] == 0
    _assert_same(_content(uninterrupted), _content(tmp_path))
    _assert_same(_content(uninterrupted, "model_best.pth"), _content(tmp_path, "model_best.pth"))


@pytest.mark.parametrize("number", [2, 3])  # 3: of the best model, after the evaluation
def test_a_run_killed_while_saving_resumes_to_the_same_bits(uninterrupted, tmp_path, number):
    assert _finish(_start(tmp_path, "--kill-while-saving", number))[0] == -9
    assert _finish(_start(tmp_path, "--resume"))[0] == 0
    _assert_same(_content(uninterrupted), _content(tmp_path))
    _assert_same(_content(uninterrupted, "model_best.pth"), _content(tmp_path, "model_best.pth"))
    evaluations = [r for r in read_records(tmp_path / "metrics.jsonl") if "val/bbox/AP" in r]
    assert [record["iteration"] for record in evaluations] == [6, 12]


def test_sigterm_saves_and_exits_with_143(uninterrupted, tmp_path):
    code, _ = _finish(_start(tmp_path, "--terminate", 5))
    assert code == 143
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000005.pth"
    assert _finish(_start(tmp_path, "--resume"))[0] == 0
    _assert_same(_content(uninterrupted), _content(tmp_path))


def test_ctrl_c_saves_and_exits_with_130(uninterrupted, tmp_path):
    code, errors = _finish(_start(tmp_path, "--interrupt", 5))
    assert code == 130, errors
    assert "Ctrl-C: this iteration is finished and saved" in errors
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000005.pth"
    assert _finish(_start(tmp_path, "--resume"))[0] == 0
    _assert_same(_content(uninterrupted), _content(tmp_path))


def test_sigterm_during_an_evaluation_ends_at_once_and_the_evaluation_is_made_up_for(
    uninterrupted, tmp_path
):
    code, errors = _finish(_start(tmp_path, "--terminate-while-testing"))
    assert code == 143, errors
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000006.pth"
    assert _finish(_start(tmp_path, "--resume"))[0] == 0
    evaluations = [r for r in read_records(tmp_path / "metrics.jsonl") if "val/bbox/AP" in r]
    assert [record["iteration"] for record in evaluations] == [6, 12]
    _assert_same(_content(uninterrupted, "model_best.pth"), _content(tmp_path, "model_best.pth"))


def test_sigterm_while_a_checkpoint_is_written_ends_before_its_evaluation(
    tiny, tmp_path, monkeypatch
):
    def evaluate(model):
        raise AssertionError("the run should have ended")

    def interrupted_save(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Checkpointer, "save", interrupted_save)
    with pytest.raises(SystemExit) as caught:
        tiny.train(tmp_path, iterations=6, checkpoint_period=6, evaluate=evaluate)
    assert caught.value.code == 143


def test_a_finished_run_that_is_resumed_changes_nothing(uninterrupted, tmp_path):
    assert _finish(_start(tmp_path))[0] == 0
    before = _content(tmp_path)
    assert _finish(_start(tmp_path, "--resume"))[0] == 0
    _assert_same(before, _content(tmp_path))
    _assert_same(before, _content(uninterrupted))


def _losses(folder):
    records = read_records(folder / "metrics.jsonl")
    return [
        [record[name] for name in ("loss", "loss_width", "loss_small", "grad_norm")]
        for record in records
        if "loss" in record
    ]


def test_two_ranks_learn_what_one_learns(tiny, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    together.mkdir()
    tiny.train(alone, dropout=0.0)
    # the second rank has the image without objects
    assert [code for code, _ in _ranks(together, "--dropout", 0.0)] == [0, 0]
    torch.testing.assert_close(_losses(together), _losses(alone), rtol=1e-5, atol=1e-6)
    for name, value in _content(alone)["training_weights"].items():
        torch.testing.assert_close(
            _content(together)["training_weights"][name], value, rtol=1e-5, atol=1e-6
        )


def test_two_ranks_that_are_killed_resume_to_the_same_bits(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    assert [code for code, _ in _ranks(whole)] == [0, 0]
    assert _ranks(broken, "--kill", 8)[0][0] == -9
    assert [code for code, _ in _ranks(broken, "--resume")] == [0, 0]
    _assert_same(_content(whole), _content(broken))


def test_parts_of_a_batch_add_up_to_its_gradient(tiny):
    model = tiny.TinyModel()
    step = TrainingStep(
        model, torch.optim.SGD(model.parameters()), None, device=torch.device("cpu")
    )
    (batch,) = tiny.TinyLoader(1, 0)
    batch[0].tensors[3] = batch[0].tensors[0]
    batch[1][3] = batch[1][0]  # equal counts in all parts, so that parts are normalised alike
    whole = step.gradients(batch)
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    step.parts = 2
    parts = step.gradients(batch)
    assert whole.names == parts.names
    torch.testing.assert_close(parts.values, whole.values)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_gradients_are_clipped_to_a_norm(tiny):
    model = tiny.TinyModel()
    optimizer = torch.optim.SGD(model.parameters())
    (batch,) = tiny.TinyLoader(1, 0)
    options = {"device": torch.device("cpu"), "clip_gradients": 0.1}
    outcome = TrainingStep(model, optimizer, None, **options).gradients(batch)
    norm = torch.cat([value.grad.flatten() for value in model.parameters()]).norm()
    assert norm == pytest.approx(0.1, rel=1e-4)
    assert outcome.values[-1] > 0.1  # what is reported is the norm before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_learns_nearly_the_same(tiny, tmp_path, dtype):
    tiny.train(tmp_path / "full", dropout=0.0, average=False)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0) if dtype == torch.float16 else None
    tiny.train(tmp_path / "low", dropout=0.0, average=False, dtype=dtype, scaler=scaler)
    full, low = _losses(tmp_path / "full"), _losses(tmp_path / "low")
    assert low != full
    # bfloat16 has 8 significant bits
    torch.testing.assert_close(low, full, rtol=5e-2, atol=1e-3)
    assert ("scaler" in _content(tmp_path / "low")) == (scaler is not None)


def test_nonfinite_losses_stop_the_run_and_say_where(tiny, tmp_path):
    with pytest.raises(NonFiniteError) as caught:
        tiny.train(tmp_path, bad=5)
    message = str(caught.value)
    for part in ("iteration 5 ", "loss_width nan", "23 (id 1023, noise23.png)", "learning rate"):
        assert part in message
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000003.pth"
    dump = torch.load(tmp_path / "nonfinite_0000005_rank0.pth", weights_only=True)
    assert dump["indices"] == [20, 21, 22, 23]
    assert dump["images"][3].isnan().all() and not dump["images"][:3].isnan().any()
    assert [len(boxes) for boxes in dump["boxes"]] == [2, 2, 2, 0]
    assert dump["iteration"] == 5


def test_a_nonfinite_loss_on_one_rank_stops_all(tmp_path):
    for rank, (code, errors) in enumerate(_ranks(tmp_path, "--bad", 5)):
        assert code != 0  # 1, or an abort where the other rank is gone already
        assert "NonFiniteError: iteration 5 is not finite" in errors
        assert (tmp_path / f"nonfinite_0000005_rank{rank}.pth").is_file()
        assert "noise23.png" in errors


def test_one_rank_that_is_asked_to_stop_stops_all(tmp_path):
    other = _start(tmp_path, "--rank", 1, "--world-size", 2)
    main = _start(tmp_path, "--rank", 0, "--world-size", 2, "--terminate", 5)
    assert [_finish(main)[0], _finish(other)[0]] == [143, 143]
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000005.pth"


def test_memory_that_does_not_suffice_names_the_knobs(tiny, tmp_path, monkeypatch):
    def forward(self, images, targets=None):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(tiny.TinyModel, "forward", forward)
    with pytest.raises(MemoryError, match=r"4 images of 8 x 8 pixels.*SOLVER\.ACCUMULATE.*DTYPE"):
        tiny.train(tmp_path)
