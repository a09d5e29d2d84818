"""Checkpoints are written whole, and a training goes on from them where it stopped."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from maskrcnn_lib.checkpoint import load_weights, save_weights
from maskrcnn_lib.checkpoint.files import read_checkpoint
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.solver.weight_average import WeightAverage
from maskrcnn_lib.utils.checkpoint import Checkpointer, DetectronCheckpointer

NAMES = ("__background", "balloon")


def _training(classes: int = 2) -> tuple[nn.Module, torch.optim.Optimizer, object]:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, classes))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2)


def _step(model, optimizer, scheduler) -> None:
    optimizer.zero_grad()
    model(torch.ones(2, 3)).square().sum().backward()
    optimizer.step()
    scheduler.step()


def test_training_that_resumes_equals_one_that_went_on(tmp_path):
    torch.manual_seed(0)
    first = _training()
    for _ in range(3):
        _step(*first)
    Checkpointer(*first, save_dir=tmp_path).save("model_0000003", iteration=3)
    second = _training()
    stored = Checkpointer(*second, save_dir=tmp_path).load()
    assert stored == {"iteration": 3}
    for _ in range(3):
        _step(*first)
        _step(*second)
    for mine, theirs in zip(first[0].parameters(), second[0].parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert first[2].state_dict() == second[2].state_dict()


def test_file_carries_marker_class_names_and_configuration(tmp_path):
    cfg = get_cfg()
    model = nn.Linear(2, 2)
    DetectronCheckpointer(cfg, model, save_dir=tmp_path, class_names=NAMES).save("model_final")
    content = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert (content["format"], content["format_version"]) == ("maskrcnn_lib", 1)
    assert content["config"] == cfg.dump()
    report = load_weights(nn.Linear(2, 2), tmp_path / "model_final.pth")
    assert (report.format, report.class_names) == ("maskrcnn_lib", NAMES)
    assert report.dialect == cfg.MODEL.DIALECT


def test_newest_checkpoint_is_preferred_unless_refused(tmp_path):
    model = nn.Linear(1, 1)
    checkpointer = Checkpointer(model, save_dir=tmp_path)
    assert not checkpointer.has_checkpoint()
    assert checkpointer.get_checkpoint_file() == ""
    for name, value in (("old", 1.0), ("new", 2.0)):
        model.weight.data.fill_(value)
        checkpointer.save(name)
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "new.pth")
    checkpointer.load(str(tmp_path / "old.pth"))
    assert model.weight.item() == 2.0
    checkpointer.load(str(tmp_path / "old.pth"), use_latest=False)
    assert model.weight.item() == 1.0
    checkpointer.tag_last_checkpoint("old.pth")
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "old.pth")


def test_a_folder_that_was_moved_still_finds_its_newest_checkpoint(tmp_path):
    Checkpointer(nn.Linear(1, 1), save_dir=tmp_path / "before").save("model")
    (tmp_path / "before").rename(tmp_path / "after")
    # maskrcnn-benchmark wrote the whole path.
    (tmp_path / "after" / "last_checkpoint").write_text("before/model.pth")
    checkpointer = Checkpointer(nn.Linear(1, 1), save_dir=tmp_path / "after")
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "after" / "model.pth")


def test_a_newest_checkpoint_that_is_gone_is_named(tmp_path):
    checkpointer = Checkpointer(nn.Linear(1, 1), save_dir=tmp_path)
    checkpointer.save("model")
    (tmp_path / "model.pth").unlink()
    with pytest.raises(FileNotFoundError, match=r"last_checkpoint names 'model\.pth'"):
        checkpointer.load()


def test_without_a_checkpoint_the_model_keeps_its_weights(tmp_path):
    model = nn.Linear(1, 1)
    before = model.weight.item()
    checkpointer = Checkpointer(model, save_dir=tmp_path)
    assert checkpointer.load() == {}
    assert checkpointer.report is None
    assert model.weight.item() == before


@pytest.mark.parametrize("options", [{"save_dir": ""}, {"save_to_disk": False}])
def test_nothing_is_written_where_it_is_not_wanted(tmp_path, options, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Checkpointer(nn.Linear(1, 1), **{"save_dir": tmp_path, **options}).save("model")
    assert list(tmp_path.iterdir()) == []


def test_weights_for_other_classes_begin_a_new_training(tmp_path):
    Checkpointer(*_training(2), save_dir=tmp_path).save("model", iteration=90000)
    model, optimizer, scheduler = _training(5)
    checkpointer = Checkpointer(model, optimizer, scheduler)
    assert checkpointer.load(tmp_path / "model.pth") == {}
    assert checkpointer.report.reinitialised == ["1.weight", "1.bias"]
    assert optimizer.state_dict()["state"] == {}
    assert scheduler.last_epoch == 0


def test_foreign_weights_bring_no_training_state(tmp_path):
    torch.save({"state_dict": nn.Linear(2, 2).state_dict(), "optimizer": 1}, tmp_path / "f.pth")
    checkpointer = Checkpointer(nn.Linear(2, 2))
    assert checkpointer.load(tmp_path / "f.pth") == {}
    assert checkpointer.report.complete


def test_wrapped_models_are_saved_under_their_own_names(tmp_path):
    model = nn.Linear(2, 2)
    save_weights(nn.DataParallel(torch.compile(model)), tmp_path / "model.pth")
    assert list(read_checkpoint(tmp_path / "model.pth")["model"]) == ["weight", "bias"]
    other = nn.Linear(2, 2)
    assert load_weights(torch.compile(other), tmp_path / "model.pth").complete
    assert torch.equal(other.weight, model.weight)


def test_keys_of_the_format_cannot_be_overwritten(tmp_path):
    with pytest.raises(ValueError, match="'model'"):
        Checkpointer(nn.Linear(1, 1), save_dir=tmp_path).save("x", model=1)


def test_a_failed_save_leaves_the_older_file_and_no_rubbish(tmp_path):
    path = tmp_path / "model.pth"
    save_weights(nn.Linear(1, 1), path)
    before = path.read_bytes()
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        save_weights(nn.Linear(2, 2), path, extra={"generator": (i for i in range(2))})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="copies of a process need fork")
@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_processes_killed_while_saving_leave_a_whole_checkpoint(tmp_path, kills):
    script = Path(__file__).with_name("killed_saves.py")
    environment = {**os.environ, "PYTHONPATH": str(script.parents[2])}
    command = [sys.executable, script, tmp_path, str(kills)]
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    if kills == 50:
        assert int(outcome.stdout) > 5  # half-written files: the kills did come during saves


def test_only_the_newest_periodic_checkpoints_are_kept(tmp_path):
    checkpointer = Checkpointer(nn.Linear(1, 1), save_dir=tmp_path, keep=2)
    checkpointer.save_weights("model_best", iteration=10)
    for iteration in (10, 20, 30, 40):
        checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model_0000030.pth", "model_0000040.pth", "model_best.pth", "last_checkpoint"}
    checkpointer.save("model_final", iteration=41)
    assert {path.name for path in tmp_path.iterdir()} == names | {"model_final.pth"}
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_final.pth")


def test_files_hold_the_average_as_the_model_and_the_weights_in_training_beside_it(tmp_path):
    model = nn.Linear(2, 2)
    average = WeightAverage(model, 0.9)
    model.weight.data.zero_()
    average.update(model)
    Checkpointer(model, save_dir=tmp_path, average=average).save("model", iteration=1)
    used = nn.Linear(2, 2)
    assert load_weights(used, tmp_path / "model.pth").format == "maskrcnn_lib"
    assert torch.equal(used.weight, average.model.weight)
    resumed = nn.Linear(2, 2)
    its_average = WeightAverage(resumed, 0.9)
    stored = Checkpointer(resumed, save_dir=tmp_path, average=its_average).load()
    assert stored == {"iteration": 1}
    assert torch.equal(resumed.weight, model.weight)
    assert torch.equal(its_average.model.weight, average.model.weight)
    assert its_average.updates == 1


def test_an_average_begins_at_the_weights_of_a_file_without_one(tmp_path):
    Checkpointer(nn.Linear(2, 2), save_dir=tmp_path).save("model", iteration=1)
    model = nn.Linear(2, 2)
    average = WeightAverage(model, 0.9)
    Checkpointer(model, save_dir=tmp_path, average=average).load()
    assert torch.equal(average.model.weight, model.weight)


def test_a_newest_checkpoint_that_is_damaged_says_where_to_name_another(tmp_path):
    checkpointer = Checkpointer(nn.Linear(1, 1), save_dir=tmp_path)
    checkpointer.save("model_0000001")
    whole = (tmp_path / "model_0000001.pth").read_bytes()
    (tmp_path / "model_0000001.pth").write_bytes(whole[:100])
    with pytest.raises(ValueError, match=r"damaged.*name an older checkpoint in .*last_checkpoint"):
        checkpointer.load()
    (tmp_path / "last_checkpoint").write_text("")
    with pytest.raises(FileNotFoundError, match="last_checkpoint names 'nothing'"):
        checkpointer.load()


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = nn.Linear(2, 2)
    diverged = {"weight": torch.full((2, 2), float("nan")), "bias": torch.zeros(2)}
    with pytest.raises(ValueError, match="not finite, in 1 of 2 tensors, such as weight"):
        load_weights(model, {"model": diverged})
    assert model.weight.isfinite().all()
