"""Commands of the documents run, on a few photos that carry the names which the documents use.

docs/getting_started.md and demo/balloon.md have tests of their own; the commands of the other
pages are run with other words by the tests of each command.
"""

import logging
import shutil
from pathlib import Path

import cv2
import pytest

from maskrcnn_lib.tools.cli import main

from .documents import ROOT, block_lines, words_of

MODEL = "maskrcnn_lib/mask_rcnn_mobilenetv2"
# Stand-in for models whose weights would have to be downloaded or put somewhere by hand.
ELSEWHERE = {
    "torchvision/maskrcnn_resnet50_fpn": MODEL,
    "d2go/mask_rcnn_fbnetv3a_C4": MODEL,
    "catalog://torchvision/maskrcnn_resnet50_fpn": f"catalog://{MODEL}",
}
CAMERA = ["video", "0"]  # not every machine has one
SHORT = "SOLVER.MAX_ITER 2 SOLVER.WARMUP_ITERS 1 SOLVER.STEPS () SOLVER.BASE_LR 0.00001".split()
SHORT += "SOLVER.IMS_PER_BATCH 2 INPUT.MIN_SIZE_TRAIN (96,) DATALOADER.NUM_WORKERS 0".split()
DOCUMENTS = ["README.md", "docs/faq.md", "docs/config.md", "docs/report.md", "docs/schedules.md"]
DOCUMENTS += ["docs/predict.md"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="not a checkout"),
]


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    """What the packaged model finds on the demo's photos, as a data set and as a test's output."""
    place = tmp_path_factory.mktemp("findings")
    photos = str(ROOT / "demo" / "images")
    assert main(["predict", photos, "--output", str(place / "found")]) == 0
    truth = str(place / "instances_val2017.json")
    shutil.copy(place / "found" / "coco_predictions.json", truth)
    words = ["test", "--model", MODEL, "--test-json", truth, "--test-images", photos]
    assert main([*words, "--output", str(place / "run")]) == 0
    return place


@pytest.fixture
def workplace(findings, tmp_path, monkeypatch):
    """A directory with what the documents' commands name."""
    logger = logging.getLogger("maskrcnn_lib")
    before = logger.handlers[:], logger.propagate, logger.level
    monkeypatch.chdir(tmp_path)
    photos = sorted((ROOT / "demo" / "images").glob("*.jpg"))
    for folder in ("photos", "val2017", "more", "annotations", "frames"):
        Path(folder).mkdir()
    for photo in photos:
        for folder in ("photos", "val2017"):
            shutil.copy(photo, folder)
    for copy in ("photo.jpg", "frames/1.jpg", "frames/2.jpg"):
        shutil.copy(photos[0], copy)
    shutil.copy(findings / "found" / "chelsea.png", "more")
    for name in ("train.json", "val.json", "annotations/instances_val2017.json"):
        shutil.copy(findings / "instances_val2017.json", name)
    shutil.copytree(findings / "run", "run")
    write_video("holiday.mp4", photos)
    yield tmp_path
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])


def write_video(path, photos):
    """Two frames of each photo."""
    video = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"mp4v"), 2, (160, 120))
    for photo in photos:
        for _ in range(2):
            video.write(cv2.resize(cv2.imread(str(photo)), (160, 120)))
    video.release()


def as_run(words):
    """A command line, with a model that is at hand and a training of moments."""
    words = [ELSEWHERE.get(word, word) for word in words]
    if words[0] != "train":
        return words
    own = [] if "--train-json" in words else ["--train-json", "train.json"]
    own += [] if "--train-images" in words else ["--train-images", "photos"]
    scratch = [] if MODEL in words else ["MODEL.WEIGHT", ""]
    return ["train", *own, *words[1:], *SHORT, *scratch]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_run(document, workplace, capsys):
    commands = [words_of(line) for line in block_lines(ROOT / document)]
    commands = [words[1:] for words in commands if words and words[0] == "maskrcnn"]
    commands = [words for words in commands if words[:2] != CAMERA]
    assert commands
    for number, words in enumerate(commands):
        words = as_run(words)
        if words[0] == "train" and "OUTPUT_DIR" not in words:
            words += ["OUTPUT_DIR", f"trained{number}"]
        assert main(words) == 0, (words, capsys.readouterr().err)
