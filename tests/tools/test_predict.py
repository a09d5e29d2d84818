"""``maskrcnn predict`` on real photos, as a user runs it."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn_lib.data.datasets import COCODataset
from maskrcnn_lib.structures.keypoint import PersonKeypoints
from maskrcnn_lib.tools.cli import main
from maskrcnn_lib.tools.predict import predict

MODEL = "d2go/mask_rcnn_fbnetv3a_C4"
PHOTOS = Path(__file__).parents[2] / "demo" / "images"


@pytest.fixture
def weights(test_data, monkeypatch):
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(test_data / "weights"))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(PHOTOS, folder)
    return folder


def test_person_cat_and_cup_are_found_and_written(weights, photos, tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["predict", str(photos), "--model", MODEL, "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    lines = {line.split(":")[0]: line for line in printed.splitlines()}
    assert "person" in lines["astronaut.jpg"]
    assert "cat" in lines["chelsea.jpg"]
    assert "cup" in lines["coffee.jpg"]
    for name in ("astronaut", "chelsea", "coffee"):
        before = np.asarray(Image.open(photos / f"{name}.jpg"))
        drawn = np.asarray(Image.open(output / f"{name}.png"))
        assert drawn.shape == before.shape
        assert (drawn != before).any(axis=-1).mean() > 0.1  # the objects are large


def test_one_unusable_image_costs_no_other(weights, tmp_path):
    """A strip that would fill the memory, and a link to nowhere."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    shutil.copy(PHOTOS / "coffee.jpg", folder)
    Image.new("RGB", (10000, 1)).save(folder / "strip.png")
    (folder / "link.jpg").symlink_to("nowhere.jpg")
    summary = predict([folder], model=MODEL, output=tmp_path / "out", formats=["json"])
    assert [path.name for path in summary.found] == ["coffee.jpg"]
    assert re.search(r"strip\.png: .*too long and thin", summary.failed[folder / "strip.png"])
    assert "no image file at" in summary.failed[folder / "link.jpg"]


def test_results_are_what_coco_tools_read(weights, photos, tmp_path):
    from pycocotools.coco import COCO

    output = tmp_path / "out"
    arguments = ["predict", str(photos / "chelsea.jpg"), "--model", MODEL, "--output", str(output)]
    assert main([*arguments, "--format", "json"]) == 0
    assert sorted(p.name for p in output.iterdir()) == [
        "coco_predictions.json",
        "coco_results.json",
    ]
    dataset = COCO(str(output / "coco_predictions.json"))
    results = dataset.loadRes(str(output / "coco_results.json"))
    best = max(results.anns.values(), key=lambda a: a["score"])
    assert dataset.cats[best["category_id"]]["name"] == "cat" and best["category_id"] == 17
    mask = results.annToMask(best)
    assert mask.shape == (300, 451)
    # the mask lies in its box and fills most of it
    x, y, w, h = best["bbox"]
    inside = mask[max(0, int(y) - 1) : int(y + h) + 2, max(0, int(x) - 1) : int(x + w) + 2]
    assert inside.sum() > 0.98 * mask.sum() and mask.sum() > 0.4 * w * h


def test_predicted_keypoints_are_a_data_set_of_keypoints(weights, photos, tmp_path):
    """The labels of one model can be what another one learns from."""
    output, model = tmp_path / "out", "d2go/keypoint_rcnn_fbnetv3a_dsmask_C4"
    predict([photos / "astronaut.jpg"], model=model, output=output, formats=["json"])
    path = output / "coco_predictions.json"
    person = json.loads(path.read_text())["categories"][0]
    assert person["keypoints"][:2] == ["nose", "left_eye"] and len(person["keypoints"]) == 17
    assert [2, 1] in person["skeleton"] and max(map(max, person["skeleton"])) == 17
    labels = COCODataset(path, photos, min_visible_keypoints=10)
    assert len(labels) == 1 and not labels.report.findings
    assert labels.skeleton.connections == PersonKeypoints.CONNECTIONS
    points = labels.target(0).get_field("keypoints").keypoints
    assert points.shape[1:] == (17, 3) and (points[..., 2] > 0).all()


def test_predictions_are_a_data_set_to_annotate(weights, photos, tmp_path, capsys):
    """pycocotools and the check of data sets read it; its outlines are the exact masks."""
    from pycocotools import mask as coder
    from pycocotools.coco import COCO

    output = tmp_path / "out"
    formats = ["--format", "json", "coco-dataset"]
    assert main(["predict", str(photos), "--model", MODEL, "--output", str(output), *formats]) == 0
    path = output / "coco_dataset.json"
    dataset, exact = COCO(str(path)), COCO(str(output / "coco_predictions.json"))
    assert len(dataset.imgs) == 3 and len(dataset.cats) == 80 and len(dataset.anns) >= 3
    for key, annotation in dataset.anns.items():
        assert annotation["score"] > 0.7 and isinstance(annotation["segmentation"], list)
        pair = [coder.encode(np.asfortranarray(d.annToMask(d.anns[key]))) for d in (dataset, exact)]
        assert coder.iou(pair[:1], pair[1:], [0])[0, 0] > 0.95
        assert annotation["area"] == coder.area(pair[1])
    checked = ["check-dataset", "--json", str(path), "--images", str(photos)]
    assert main([*checked, "--output", str(tmp_path / "check")]) == 0
    assert "usable" in capsys.readouterr().out
    assert not COCODataset(path, photos).report.findings


def test_a_damaged_file_is_named_counted_and_skipped(weights, photos, tmp_path, capsys):
    (photos / "broken.jpg").write_bytes(b"nothing")
    output = tmp_path / "out"
    assert main(["predict", str(photos), "--model", MODEL, "--output", str(output)]) == 1
    captured = capsys.readouterr()
    assert "broken.jpg" in captured.err and "1 of 4 inputs skipped" in captured.err
    assert "cat" in captured.out
    assert (output / "chelsea.png").exists() and not (output / "broken.png").exists()


def test_inputs_that_do_not_exist_are_named_and_the_others_are_done(
    weights, photos, tmp_path, capsys
):
    """Whatever is missing: a file, a pattern's matches, a directory's images, a link's target."""
    (tmp_path / "empty").mkdir()
    (photos / "moved.jpg").symlink_to(photos / "away" / "moved.jpg")
    missing = [tmp_path / "nowhere.jpg", tmp_path / "none*.png", tmp_path / "empty"]
    output = tmp_path / "out"
    inputs = [*map(str, missing[:2]), str(photos), str(missing[2])]
    assert main(["predict", *inputs, "--model", MODEL, "--output", str(output)]) == 1
    captured = capsys.readouterr()
    for name in (*missing, photos / "moved.jpg"):
        assert re.search(rf"^skipped: .*{re.escape(str(name))}", captured.err, re.MULTILINE)
    assert "4 of 7 inputs skipped" in captured.err
    assert "cat" in captured.out and len(list(output.glob("*.png"))) == 3
    assert len(json.loads((output / "coco_predictions.json").read_text())["images"]) == 3


def test_nothing_is_written_where_no_input_exists(tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["predict", "nowhere.jpg", "none*.png", "--output", str(output)]) == 1
    errors = capsys.readouterr().err
    assert "nowhere.jpg" in errors and "none*.png" in errors
    assert not output.exists()


def test_every_kind_of_image_is_taken(weights, photos, tmp_path, capsys):
    cat = Image.open(photos / "chelsea.jpg")
    folder = tmp_path / "kinds"
    folder.mkdir()
    cat.convert("L").save(folder / "grey.png")
    cat.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    cat.convert("RGBA").save(folder / "rgba.png")
    cat.quantize(64).save(folder / "palette.png")
    Image.fromarray(np.asarray(cat.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    exif = cat.getexif()
    exif[0x0112] = 6
    cat.rotate(90, expand=True).save(folder / "turned.jpg", exif=exif, quality=95)
    # without colours the model is less sure
    options = ["--format", "png", "--confidence", "0.3"]
    arguments = ["--model", MODEL, "--output", str(tmp_path / "out"), *options]
    assert main(["predict", str(folder), *arguments]) == 0
    lines = [
        line for line in capsys.readouterr().out.splitlines() if ".png:" in line or ".jpg:" in line
    ]
    assert len(lines) == 6 and all("cat" in line for line in lines)
    assert Image.open(tmp_path / "out" / "turned.png").size == cat.size


def test_pdf_pages_and_heat_maps_are_written(weights, photos, tmp_path):
    output = tmp_path / "out"
    arguments = ["predict", str(photos / "coffee.jpg"), "--model", MODEL, "--output", str(output)]
    assert main([*arguments, "--format", "pdf", "png", "--show-mask-heatmaps"]) == 0
    content = (output / "coffee.pdf").read_bytes()
    assert content.startswith(b"%PDF") and b"/Count 1" in content
    heat = np.asarray(Image.open(output / "coffee.png")).astype(int)
    assert heat[..., 0].max() > 100 and heat[..., 2].max() > 100


def test_inputs_with_one_stem_do_not_overwrite_each_other(weights, photos, tmp_path):
    Image.open(photos / "coffee.jpg").save(photos / "coffee.png")
    output = tmp_path / "out"
    inputs = [str(photos / "coffee.jpg"), str(photos / "coffee.png")]
    assert main(["predict", *inputs, "--model", MODEL, "--output", str(output)]) == 0
    assert {"coffee.jpg.png", "coffee.png.png"} <= {p.name for p in output.iterdir()}


def test_images_of_one_name_do_not_overwrite_each_other(weights, photos, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(photos / "coffee.jpg", other / "chelsea.jpg")
    output = tmp_path / "out"
    inputs = [str(photos / "chelsea.jpg"), str(other), str(photos / "chelsea.jpg")]
    assert main(["predict", *inputs, "--model", MODEL, "--output", str(output)]) == 0
    pictures = {p.name: Image.open(p).size for p in output.glob("*.png")}
    assert pictures == {
        "photos_chelsea.jpg.png": Image.open(photos / "chelsea.jpg").size,
        "other_chelsea.jpg.png": Image.open(photos / "coffee.jpg").size,
    }
    entries = json.loads((output / "coco_predictions.json").read_text())["images"]
    assert [e["file_name"] for e in entries] == ["photos/chelsea.jpg", "other/chelsea.jpg"]


def test_a_picture_never_takes_the_place_of_an_image(photos, capsys):
    Image.open(photos / "coffee.jpg").save(photos / "coffee.png")
    (photos / "coffee.jpg").unlink()
    before = (photos / "coffee.png").read_bytes()
    command = ["predict", str(photos / "coffee.png"), "--output", str(photos), "--model", MODEL]
    assert main(command) == 1
    assert "another directory" in capsys.readouterr().err
    assert (photos / "coffee.png").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": ["gif"]}, "png, jpg, pdf, json, coco-dataset"),
        ({"confidence": 70}, "within 0 and 1"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        predict([PHOTOS], model=MODEL, output=tmp_path, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jpg"], "nowhere.jpg"),
        ([str(PHOTOS), "--model", "d2go/mask_rcnn_fbnetv3a_C5"], "d2go/mask_rcnn_fbnetv3a_C4"),
        ([str(PHOTOS), "--model", MODEL, "--weights", "gone.pth"], "gone.pth"),
    ],
)
def test_wrong_input_is_named(weights, arguments, message, capsys, tmp_path):
    assert main(["predict", "--output", str(tmp_path), *arguments]) == 1
    assert message in capsys.readouterr().err


def test_an_output_directory_that_is_a_file_is_named(weights, tmp_path, capsys):
    (tmp_path / "occupied").write_text("")
    command = ["predict", str(PHOTOS / "coffee.jpg"), "--model", MODEL]
    assert main([*command, "--output", str(tmp_path / "occupied")]) == 1
    assert "FileExistsError" in capsys.readouterr().err


def test_endings_say_which_files_of_a_directory_are_taken_and_patterns_take_any(
    weights, photos, tmp_path, capsys
):
    Image.open(photos / "coffee.jpg").save(photos / "mug.PNG")
    options = ["--model", MODEL, "--output", str(tmp_path / "out"), "--format", "json"]
    for ending in ("png", ".png"):
        assert main(["predict", str(photos), *options, "--image-ext", ending]) == 0
        assert re.findall(r"^(\S+):", capsys.readouterr().out, re.MULTILINE) == ["mug.PNG"]
    assert main(["predict", str(photos / "c*.jpg"), *options]) == 0
    names = re.findall(r"^(\S+):", capsys.readouterr().out, re.MULTILINE)
    assert names == ["chelsea.jpg", "coffee.jpg"]


def test_weights_come_from_an_address(test_data, photos, tmp_path, monkeypatch, capsys):
    """As Detectron's --wts; the second run takes what the first has loaded."""
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MASKRCNN_WEIGHTS_DIR", raising=False)
    handler = partial(SimpleHTTPRequestHandler, directory=str(test_data / "weights"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/mask_rcnn_fbnetv3a_float.pth"
        command = ["predict", str(photos / "chelsea.jpg"), "--config-file", MODEL]
        command += ["--weights", url, "--output", str(tmp_path / "out")]
        assert main(command) == 0
        server.shutdown()
    assert "chelsea.jpg: cat" in capsys.readouterr().out
    assert main(command) == 0


@pytest.mark.data
def test_ctrl_c_leaves_what_was_finished(weights, photos, tmp_path):
    for number in range(300):
        (photos / f"{number:03}.jpg").symlink_to(photos / "chelsea.jpg")
    output = tmp_path / "out"
    command = [sys.executable, "-m", "maskrcnn_lib.tools.cli", "predict", str(photos)]
    command += ["--model", MODEL, "--output", str(output), "INPUT.MIN_SIZE_TEST", "160"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while len(list(output.glob("*.png"))) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    pictures = sorted(output.glob("*.png"))
    for picture in pictures:
        Image.open(picture).load()
    done = json.loads((output / "coco_predictions.json").read_text())
    names = [Path(image["file_name"]).stem for image in done["images"]]
    assert 3 <= len(names) < 300 and [picture.stem for picture in pictures] == names
    assert f"{len(names)} of 303 images are done" in errors


@pytest.mark.parametrize(
    "option",
    [
        *(["--confidence", "70"], ["--format", "gif"], ["--nonsense"]),
        ["MODEL.ROI_HEADS.NMSS", "1", "MODEL.ROI_HEADS.NMS"],  # the last is the advice
    ],
)
def test_wrong_usage_exits_with_2(option, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(PHOTOS), *(option if len(option) < 3 else option[:-1])])
    assert stop.value.code == 2 and option[-1] in capsys.readouterr().err
