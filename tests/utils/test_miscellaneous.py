"""Files beside a run's results."""

import json
from types import SimpleNamespace

from maskrcnn_lib.utils import miscellaneous


def test_mkdir_makes_parents_and_accepts_existing(tmp_path):
    miscellaneous.mkdir(tmp_path / "a" / "b")
    miscellaneous.mkdir(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_config_is_written_as_its_dump(tmp_path):
    miscellaneous.save_config(SimpleNamespace(dump=lambda: "A: 1\n"), tmp_path / "config.yml")
    assert (tmp_path / "config.yml").read_text() == "A: 1\n"


def test_class_names_of_all_datasets_are_saved(tmp_path):
    datasets = [SimpleNamespace(categories={1: "cat"}), SimpleNamespace(categories={2: "tasse à"})]
    miscellaneous.save_labels(datasets, tmp_path)
    text = (tmp_path / "labels.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"1": "cat", "2": "tasse à"}


def test_dataset_without_class_names_is_named_in_a_warning(tmp_path, caplog):
    miscellaneous.save_labels([SimpleNamespace()], tmp_path)
    assert "SimpleNamespace has no attribute `categories`" in caplog.text
    assert not (tmp_path / "labels.json").exists()
