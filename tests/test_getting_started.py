"""The page docs/getting_started.md works: its commands as they stand, one after the other."""

import json
import logging
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from maskrcnn_lib.tools.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "getting_started.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="not a checkout")
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Behind the page's own keys: the page trains for a minute, this test for some seconds.
SHORT = ["SOLVER.MAX_ITER", "6", "INPUT.MIN_SIZE_TRAIN", "(240,)", "DATALOADER.NUM_WORKERS", "0"]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty directory with the demo's photos; commands leave the logger as it was."""
    logger = logging.getLogger("maskrcnn_lib")
    before = logger.handlers[:], logger.propagate, logger.level
    (tmp_path / "demo").symlink_to(ROOT / "demo")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MASKRCNN_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    yield tmp_path
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])


def steps():
    """The page's commands as lists of words, and its Python as texts, in their order."""
    for kind, text in BLOCK.findall(PAGE.read_text()):
        if kind == "python":
            yield text
            continue
        for line in text.replace("\\\n", " ").splitlines():
            if line.strip():
                yield shlex.split(line, comments=True)


def test_page_runs_from_the_first_command_to_the_last(workplace, capsys):
    kinds = []
    for step in steps():
        if isinstance(step, str):
            capsys.readouterr()
            exec(compile(step, str(PAGE), "exec"), {})
            assert "cat" in capsys.readouterr().out
            continue
        program, kind, *words = step
        assert program == "maskrcnn"
        short = SHORT if kind == "train" else []
        assert main([kind, *words, *short]) == 0, capsys.readouterr().err
        kinds.append(kind)
    assert kinds[:2] == ["checks", "predict"] and {"train", "report"} < set(kinds)
    (scores,) = (workplace / "run").glob("*/coco_results.json")
    assert json.loads(scores.read_text())["segm"]["AP"] == 1.0  # truth is what it found itself
    for name in ("check/examples.png", "found/coffee.png", "mine/pictures/chelsea.png"):
        assert min(Image.open(workplace / name).size) > 100
    assert len(list((workplace / "pictures").glob("*.jpg"))) == 3
    assert "<html" in (workplace / "report.html").read_text()[:1000]
    assert (workplace / "mine" / "results.png").stat().st_size > 0
