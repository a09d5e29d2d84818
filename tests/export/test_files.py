"""Exported files find what the models find, on images of any size and without this library."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn_lib.data.image_io import read_image
from maskrcnn_lib.engine.inference import PACKAGED_MODEL, build_detector, choose_model
from maskrcnn_lib.engine.postprocess import keep_confident, restore_original_size
from maskrcnn_lib.export.agreement import agreement, compare, network_pixels, open_file
from maskrcnn_lib.export.files import export_detector
from maskrcnn_lib.structures.image_list import to_image_list

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("torchvision")

pytestmark = pytest.mark.slow  # a model takes more than half a minute to record and translate

EXAMPLE = Path(__file__).parents[2] / "demo" / "onnx_detect.py"
PHOTOS = EXAMPLE.with_name("images")
FBNETV3 = "d2go/mask_rcnn_fbnetv3a_C4"
KEYPOINTS = "d2go/keypoint_rcnn_fbnetv3a_dsmask_C4"
PEOPLE = (217285, 329323)  # photos of COCO with many of them, one upright
PHOTO_NAMES = ("astronaut", "chelsea", "coffee")  # of three shapes


def images(photo):
    """Photos of three shapes, one on its side, and one without anything on it."""
    photos = [photo(name) for name in PHOTO_NAMES]
    return [*photos, photos[0].transpose(1, 0, 2)[:, :300], np.full((200, 240, 3), 128, np.uint8)]


def assert_agree(detector, path, photo):
    run = open_file(path)
    results = [compare(detector, run, image) for image in images(photo)]
    assert all(result.good for result in results), list(map(str, results))
    assert sum(result.counts[0] for result in results[:3]) >= 3
    return results


@pytest.fixture(scope="module")
def detector():
    """The model that comes with the package, trained."""
    cfg, weights = choose_model(model=PACKAGED_MODEL)
    return build_detector(cfg, weights, pack=False)


@pytest.fixture(scope="module")
def exported(detector, photo, tmp_path_factory):
    """Its file, and what the model found before and after it was written."""
    before = detector([photo("coffee")])[0]
    path = tmp_path_factory.mktemp("packaged") / "model.onnx"
    assert export_detector(detector, path, kind="onnx") == path
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    return path, before, detector([photo("coffee")])[0]


def test_onnx_runtime_finds_the_same(exported, detector, photo):
    assert_agree(detector, exported[0], photo)


def test_export_leaves_the_model_as_it_was(exported):
    _, before, after = exported
    assert len(before) and torch.equal(before.bbox, after.bbox)
    for field in ("scores", "labels", "mask"):
        assert torch.equal(before.get_field(field), after.get_field(field))


def test_onnx_file_says_how_to_use_it(exported, detector):
    session = onnxruntime.InferenceSession(exported[0], providers=["CPUExecutionProvider"])
    assert [(i.name, i.shape, i.type) for i in session.get_inputs()] == [
        ("image", [3, "height", "width"], "tensor(float)"),
        ("original_size", [2], "tensor(int64)"),
    ]
    assert [(o.name, o.shape) for o in session.get_outputs()] == [
        ("boxes", ["detections", 4]),
        ("scores", ["detections"]),
        ("labels", ["detections"]),
        ("masks", ["detections", 28, 28]),
    ]
    stored = session.get_modelmeta().custom_metadata_map
    description = {key: json.loads(value) for key, value in stored.items()}
    assert description["class_names"] == list(detector.class_names)
    assert description["image"]["channels"] == "RGB" and description["image"]["range"] == [0, 255]
    assert description["image"]["short_side"] == detector.transform.min_size
    assert description["normalisation"]["mean"] == list(detector.transform.mean)
    assert description["masks"]["paste"] == detector.dialect.paste


def test_onnx_file_has_standard_operators_alone(exported):
    import onnx

    model = onnx.load(exported[0])
    onnx.checker.check_model(model)
    assert {opset.domain for opset in model.opset_import} <= {"", "ai.onnx"}
    assert not model.functions
    assert {"RoiAlign", "NonMaxSuppression"} <= {node.op_type for node in model.graph.node}


def test_onnx_file_names_no_source_file_of_this_machine(exported):
    assert b".py" not in exported[0].read_bytes()


def test_example_without_this_library_finds_the_same(exported, detector, tmp_path):
    image, picture = PHOTOS / "chelsea.jpg", tmp_path / "found.png"
    command = [sys.executable, EXAMPLE, exported[0], image, "--output", picture]
    run = subprocess.run(
        [*map(str, command), "--confidence", "0.3"], capture_output=True, text=True, check=True
    )
    before = np.asarray(Image.open(image).convert("RGB"))
    expected = keep_confident(detector([before])[0], 0.3)
    lines = [line.rsplit(" ", 5) for line in run.stdout.splitlines()]
    names = [detector.class_names[label] for label in expected.get_field("labels")]
    assert [line[0] for line in lines] == names and "cat" in names
    # Pillow's resizing and torch's differ by a grey level here and there.
    boxes = torch.tensor([[float(value) for value in line[2:]] for line in lines])
    torch.testing.assert_close(boxes, expected.bbox, atol=2, rtol=0)
    drawn = np.asarray(Image.open(picture))
    assert drawn.shape == before.shape and (drawn != before).any(axis=2).mean() > 0.1


@pytest.mark.data
@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_fbnetv3_finds_the_same_on_photos(kind, test_data, photo, monkeypatch, tmp_path):
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(test_data / "weights"))
    cfg, weights = choose_model(model=FBNETV3)
    path = tmp_path / f"fbnetv3.{kind}"
    export_detector(build_detector(cfg, weights, pack=False), path, kind=kind)
    results = assert_agree(build_detector(cfg, weights), path, photo)  # the fast layers
    assert sum(result.counts[0] for result in results) > 20


def in_float64(detector, image):
    """What the model finds when it computes in float64."""
    model = copy.deepcopy(detector.model).double()
    batch = to_image_list([detector.transform(image).double()], detector.size_divisible)
    with torch.inference_mode():
        found = model(batch)[0]
    return restore_original_size(found, image.shape[1::-1], detector.dialect)


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_full_resnet50_fpn_finds_the_same(kind, trained_model, learned_photos, photo, tmp_path):
    """At three scales, photos that the model knows, one on its side, part of one, and another."""
    path = export_detector(trained_model(), tmp_path / f"model.{kind}", kind=kind)
    run = open_file(path)
    parts = [learned_photos[0].transpose(1, 0, 2)[:, :300], learned_photos[3][:, :250]]
    for size in (120, 160, 224):
        detector = trained_model("INPUT.MAX_SIZE_TEST", 2 * size, min_image_size=size)
        images = [*learned_photos[:2], photo("coffee")]
        images += [*learned_photos[2:], *parts] if size == 160 else []
        results = [compare(detector, run, image) for image in images]
        assert all(result.good for result in results), (size, list(map(str, results)))
    detector = trained_model()
    for image in learned_photos:
        exact = in_float64(detector, image)
        assert exact.get_field("scores").max() > 0.9
        found = run(network_pixels(detector.transform, image), image.shape[:2])
        assert agreement(exact, found).good


@pytest.mark.data
@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_key_points_are_where_the_model_finds_them(kind, test_data, monkeypatch, tmp_path):
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(test_data / "weights"))
    cfg, weights = choose_model(model=KEYPOINTS)
    path = tmp_path / f"keypoints.{kind}"
    detector = build_detector(cfg, weights, pack=False)
    run = open_file(export_detector(detector, path, kind=kind))
    people = [test_data / "coco_mini" / "val2017" / f"{number:012d}.jpg" for number in PEOPLE]
    for image in [*map(read_image, people), np.full((200, 240, 3), 128, np.uint8)]:
        result = compare(detector, run, image)
        assert result.good, str(result)
        assert result.counts[0] > 5 or image.std() == 0


def test_pt2_loads_where_this_library_is_not(narrow_detector, photo, tmp_path):
    detector = narrow_detector("torchvision/maskrcnn_resnet50_fpn")
    path = export_detector(detector, tmp_path / "model.pt2", kind="pt2")
    assert compare(detector, open_file(path), photo("coffee")).good
    image = photo("chelsea")
    torch.save(network_pixels(detector.transform, image), tmp_path / "pixels.pt")
    program = f"""
import sys, json, torch, torchvision
extra = {{"description.json": ""}}
program = torch.export.load("model.pt2", extra_files=extra)
found = program.module()(torch.load("pixels.pt"), torch.tensor({list(image.shape[:2])}))
assert not any(name.startswith("maskrcnn_lib") for name in sys.modules)
print(json.dumps([json.loads(extra["description.json"])["class_names"], found["boxes"].tolist()]))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    names, boxes = json.loads(run.stdout.splitlines()[-1])
    assert names == list(detector.class_names)
    expected = detector([image])[0].bbox
    torch.testing.assert_close(torch.tensor(boxes), expected, atol=0.01, rtol=0)
