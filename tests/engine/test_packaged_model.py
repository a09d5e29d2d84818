"""The model that comes with the package: there, small, complete, of use, and never the network."""

import json
import re
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn_lib import COCODemo
from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.checkpoint.download import packaged_weights_directory, resolve_weights
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.config.paths_catalog import ModelCatalog
from maskrcnn_lib.engine.inference import PACKAGED_MODEL, default_model, usual_confidence
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.tools.cli import main
from maskrcnn_lib.tools.test_net import measure

PHOTOS = Path(__file__).parents[2] / "demo" / "images"
LARGEST = 6_000_000  # bytes
CLASSES = ("person", "bird", "bowl", "car", "cat", "chair", "cup", "dining table", "dog", "laptop")
CLASSES += ("potted plant", "tv")


@pytest.fixture
def bare_machine(monkeypatch, tmp_path):
    """A machine without other weights, on which every connection fails the test."""
    monkeypatch.delenv("MASKRCNN_WEIGHTS_DIR", raising=False)
    for name in ("MASKRCNN_CACHE", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))

    def refuse(*arguments, **options):
        pytest.fail(f"a connection was tried: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_file_is_small_and_the_one_in_the_catalog(bare_machine):
    entry = ModelCatalog.entry(PACKAGED_MODEL)
    path = resolve_weights(PACKAGED_MODEL)  # compares the SHA-256
    assert path == packaged_weights_directory() / entry.file_name
    assert path.stat().st_size == entry.size <= LARGEST
    assert len(entry.sha256) == 64


def test_weights_fill_the_model(bare_machine):
    model = build_detection_model(get_cfg(PACKAGED_MODEL))
    report = load_weights(model, resolve_weights(PACKAGED_MODEL), strict=True)
    assert report.complete and sorted(report.class_names[1:]) == sorted(CLASSES)
    assert report.dialect == "detectron2"


def test_nothing_of_the_machine_that_trained_it_is_inside(bare_machine):
    content = resolve_weights(PACKAGED_MODEL).read_bytes()
    assert b"/tmp" not in content and b"/home" not in content and b"/work" not in content


def test_demo_finds_person_and_cat_without_network_or_weights(bare_machine):
    assert default_model() == PACKAGED_MODEL
    demo = COCODemo(confidence_threshold=usual_confidence(PACKAGED_MODEL))
    for photo, expected in (("astronaut", "person"), ("chelsea", "cat")):
        image = np.asarray(Image.open(PHOTOS / f"{photo}.jpg").convert("RGB"))[..., ::-1]
        top = demo.select_top_predictions(demo.compute_prediction(np.ascontiguousarray(image)))
        names = [demo.class_name(label) for label in top.get_field("labels").tolist()]
        assert expected in names, photo
        found = names.index(expected)
        # both fill much of their photo: the mask covers a good part of its large box
        box, mask = top.bbox[found], top.get_field("mask")[found, 0]
        area = float((box[2] - box[0]) * (box[3] - box[1]))
        assert area > 0.2 * mask.numel() and mask.sum() > 0.3 * area, photo


def test_better_weights_at_hand_are_preferred(bare_machine, monkeypatch, test_data):
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(test_data / "weights"))
    assert default_model() == "d2go/mask_rcnn_fbnetv3a_C4"


def test_command_says_how_good_the_model_is_and_what_is_better(bare_machine, tmp_path, capsys):
    photo = str(PHOTOS / "chelsea.jpg")
    assert main(["predict", photo, "--output", str(tmp_path / "out"), "--format", "json"]) == 0
    printed = capsys.readouterr().out
    assert "chelsea.jpg: cat" in printed
    assert PACKAGED_MODEL in printed and "box AP" in printed
    assert "maskrcnn predict --model torchvision/maskrcnn_resnet50_fpn" in printed


@pytest.mark.slow
@pytest.mark.data
def test_accuracy_is_the_one_in_the_catalog(bare_machine, test_data, tmp_path):
    annotations, images = tmp_path / "val.json", test_data / "coco_mini" / "val2017"
    every = test_data / "coco_mini" / "annotations" / "instances_val2017.json"
    _select_classes(every, annotations, CLASSES)
    measured = measure(
        model=PACKAGED_MODEL, annotations=annotations, images=images, output=tmp_path
    )["val"]
    found = tmp_path / "val" / "bbox.json"
    scores = [measured[kind].metrics["AP"] for kind in ("bbox", "segm")]
    scores.append(_ap50_of_persons(annotations, found))
    note = ModelCatalog.entry(PACKAGED_MODEL).note
    stated = [float(number) for number in re.findall(r"AP(?:50)? (\d+\.\d)", note)]
    # 0.3 points: other processors round otherwise
    assert [100 * score for score in scores] == pytest.approx(stated, abs=0.3)


def _select_classes(source, target, names):
    content = json.loads(source.read_text())
    kept = [category for category in content["categories"] if category["name"] in names]
    ids = {category["id"] for category in kept}
    objects = [item for item in content["annotations"] if item["category_id"] in ids]
    target.write_text(json.dumps({**content, "categories": kept, "annotations": objects}))


def _ap50_of_persons(annotations, found):
    coco = pytest.importorskip("pycocotools.coco").COCO(annotations)
    evaluation = pytest.importorskip("pycocotools.cocoeval").COCOeval(
        coco, coco.loadRes(str(found)), "bbox"
    )
    evaluation.params.catIds = coco.getCatIds(catNms=["person"])
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[1]
