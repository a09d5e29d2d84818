"""Log lines: where they go, and that none is written twice."""

import logging
import uuid

import pytest

from maskrcnn_lib.utils.logger import setup_logger


@pytest.fixture
def name():
    name = f"test.{uuid.uuid4()}"
    yield name
    for handler in logging.getLogger(name).handlers:
        handler.close()


def test_lines_of_children_go_to_terminal_and_file(name, tmp_path, capsys):
    setup_logger(name, tmp_path / "run")
    logging.getLogger(f"{name}.part").info("loaded %d weights", 7)
    assert "loaded 7 weights" in capsys.readouterr().out
    text = (tmp_path / "run" / "log.txt").read_text()
    assert text.count("loaded 7 weights") == 1
    assert f"{name}.part INFO" in text


def test_setting_up_twice_writes_each_line_once(name, tmp_path, capsys):
    assert setup_logger(name, tmp_path) is setup_logger(name, tmp_path)
    logging.getLogger(name).warning("once")
    assert capsys.readouterr().out.count("once") == 1
    assert (tmp_path / "log.txt").read_text().count("once") == 1


def test_other_ranks_write_to_their_own_file_only(name, tmp_path, capsys):
    setup_logger(name, tmp_path, 2, filename="train.txt").info("from rank two")
    assert capsys.readouterr().out == ""
    assert "from rank two" in (tmp_path / "train.txt.rank2").read_text()
    assert not (tmp_path / "train.txt").exists()


@pytest.mark.parametrize("save_dir", ["", None])
def test_without_directory_there_is_no_file(name, save_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    setup_logger(name, save_dir).info("terminal only")
    assert "terminal only" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
