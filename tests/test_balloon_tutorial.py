"""The balloon tutorial works: its commands as they stand, and its model after a few iterations."""

import json
import logging
import shutil

import cv2
import numpy as np
import pytest

from maskrcnn_lib import COCODemo, get_cfg
from maskrcnn_lib.tools.cli import main

from .document_workplace import SHORT
from .documents import NOT_RUN, ROOT, steps, words_of

TUTORIAL = ROOT / "demo" / "balloon.md"
# Of boxes and masks after a schedule of 4 epochs instead of 8; the tutorial says what 8 reach.
FLOOR_AP = {"balloon/mask_rcnn_mobilenetv2": 0.3, "balloon/mask_rcnn_fbnetv3a_C4": 0.45}
# Behind the keys of the tutorial's trainings: of those on balloons, and of the others.
HALF = ["SOLVER.MAX_EPOCH", "4", "SOLVER.TEST_PERIOD", "2"]
FEW = [*SHORT, "INPUT.MIN_SIZE_TEST", "160"]
SMALL = ["INPUT.MIN_SIZE_TRAIN", "(224,)", "INPUT.MIN_SIZE_TEST", "224"]


@pytest.fixture(autouse=True)
def logger_as_before():
    """Commands make the package's logger write to files of their own."""
    logger = logging.getLogger("maskrcnn_lib")
    before = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])


@pytest.fixture
def photos(test_data, monkeypatch):
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(test_data / "weights"))
    return test_data / "balloon"


@pytest.fixture
def workplace(photos, tmp_path, monkeypatch):
    """An empty directory with the unpacked download in it; the annotations are VIA's again."""
    mine = tmp_path / "mine"
    (mine / "photos").mkdir(parents=True)
    for split in ("train", "val"):
        folder = tmp_path / "datasets" / "balloon" / split
        folder.mkdir(parents=True)
        for photo in (photos / split).glob("*.jpg"):
            (folder / photo.name).symlink_to(photo)
            (mine / "photos" / photo.name).symlink_to(photo)
        content = json.loads((photos / f"instances_{split}.json").read_text())
        (folder / "via_region_data.json").write_text(json.dumps(as_via(content)))
        shutil.copy(photos / f"instances_{split}.json", mine / f"{split}.json")
    shutil.copy(sorted((photos / "val").glob("*.jpg"))[0], tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def as_via(content):
    """Annotations in COCO's format, one polygon each, as the image annotator wrote them."""
    regions = {image["id"]: {} for image in content["images"]}
    for annotation in content["annotations"]:
        of_image = regions[annotation["image_id"]]
        (polygon,) = annotation["segmentation"]
        shape = {"name": "polygon", "all_points_x": polygon[::2], "all_points_y": polygon[1::2]}
        of_image[str(len(of_image))] = {"shape_attributes": shape, "region_attributes": {}}
    return {
        image["file_name"]: {"filename": image["file_name"], "regions": regions[image["id"]]}
        for image in content["images"]
    }


def train_few(photos, output, config, *overrides):
    """Trains without evaluations; returns the loss of each iteration."""
    words = ["train", "--config-file", config, "--skip-test"]
    words += ["--train-json", str(photos / "instances_train.json")]
    words += ["--train-images", str(photos / "train"), *overrides]
    words += ["OUTPUT_DIR", str(output), "DATALOADER.NUM_WORKERS", "0", "SOLVER.LOG_PERIOD", "1"]
    assert main(words) == 0
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records]


def test_few_iterations_lower_the_loss_and_the_demo_knows_the_balloon(photos, tmp_path):
    output = tmp_path / "run"
    schedule = ["SOLVER.MAX_EPOCH", "0", "SOLVER.MAX_ITER", "12", "SOLVER.WARMUP_ITERS", "2"]
    schedule += ["SOLVER.IMS_PER_BATCH", "2", "SOLVER.BASE_LR", "0.0004"]
    course = train_few(photos, output, "balloon/mask_rcnn_fbnetv3a_C4", *SMALL, *schedule)
    assert len(course) == 12
    assert np.mean(course[-4:]) < 0.8 * np.mean(course[:4])
    weights = str(output / "model_final.pth")
    demo = COCODemo(get_cfg(output / "config.yaml"), weights=weights)
    assert demo.CATEGORIES[1:] == ["balloon"]
    picture = cv2.imread(str(sorted((photos / "val").glob("*.jpg"))[0]))
    found = demo.compute_prediction(picture)
    assert set(found.get_field("labels").tolist()) <= {1}
    assert demo.run_on_opencv_image(picture).shape == picture.shape


@pytest.mark.slow
def test_commands_of_the_tutorial_train_a_model_that_finds_balloons(workplace, capsys):
    kinds = []
    for kind, text in steps(TUTORIAL):
        if kind == "python":
            exec(compile(text, str(TUTORIAL), "exec"), {})
            continue
        if ("demo/balloon.md", text) in NOT_RUN:
            continue
        program, *words = words_of(text)
        assert program == "maskrcnn"
        if words[0] == "train":
            words += HALF if words[2] in FLOOR_AP and "--train-json" not in words else FEW
        assert main(words) == 0, capsys.readouterr().err
        kinds.append(words[0])
    beginning = ["convert", "convert", "check-dataset", "train", "train", "test", "predict"]
    assert kinds == [*beginning, "train", "train", "train"]
    assert (cv2.imread("drawn.png") != cv2.imread("photo.jpg")).any()
    for config, floor in FLOOR_AP.items():
        run = workplace / get_cfg(config).OUTPUT_DIR
        (result,) = run.glob("inference/*/coco_results.json")
        scores = json.loads(result.read_text())
        for kind in ("bbox", "segm"):
            assert scores[kind]["AP"] > floor
        for name in ("results.png", "labels.jpg", "train_batch0.jpg", "val_batch0_pred.jpg"):
            assert (run / name).stat().st_size > 0
    assert len(list((workplace / "runs" / "balloon_pictures").glob("*.png"))) == 13


@pytest.mark.slow
def test_large_config_trains_at_several_sizes_from_imagenet_weights(photos, tmp_path):
    schedule = ["SOLVER.MAX_EPOCH", "0", "SOLVER.MAX_ITER", "6", "SOLVER.STEPS", "()"]
    schedule += ["SOLVER.WARMUP_ITERS", "2", "SOLVER.IMS_PER_BATCH", "2"]
    sizes = ["INPUT.MIN_SIZE_TRAIN", "(160, 192, 224)", "INPUT.MIN_SIZE_TEST", "192"]
    course = train_few(photos, tmp_path, "balloon/mask_rcnn_R_50_FPN", *sizes, *schedule)
    assert np.isfinite(course).all() and len(course) == 6
