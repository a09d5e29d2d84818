"""The page docs/getting_started.md works: its commands as they stand, one after the other."""

import json
import logging

import pytest
from PIL import Image

from maskrcnn_lib.tools.cli import main

from .documents import NOT_RUN, ROOT, steps, words_of

PAGE = ROOT / "docs" / "getting_started.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="not a checkout")
# A model whose weights would be downloaded, and one that comes with the package.
DOWNLOADED = "torchvision/maskrcnn_resnet50_fpn", "maskrcnn_lib/mask_rcnn_mobilenetv2"
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


def test_page_runs_from_the_first_command_to_the_last(workplace, capsys):
    kinds = []
    for what, text in steps(PAGE):
        if what == "python":
            capsys.readouterr()
            exec(compile(text, str(PAGE), "exec"), {})
            assert "cat" in capsys.readouterr().out
            continue
        if ("docs/getting_started.md", text) in NOT_RUN:
            continue
        program, kind, *words = words_of(text.replace(*DOWNLOADED))
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
