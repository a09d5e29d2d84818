"""maskrcnn-benchmark's ``inference`` on a real loader gives what the command gives."""

import json
import logging

import pytest

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.data import make_data_loader
from maskrcnn_lib.data.datasets import COCODataset
from maskrcnn_lib.engine.inference import build_detector, inference
from maskrcnn_lib.engine.measuring import measure_dataset

IMAGES = 6


@pytest.fixture(scope="module")
def dataset(test_data):
    mini = test_data / "coco_mini"
    content = json.loads((mini / "annotations" / "instances_val2017.json").read_text())
    content["images"] = content["images"][:IMAGES]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    return COCODataset(content, mini / "val2017")


@pytest.fixture(scope="module")
def cfg():
    overrides = ["TEST.IMS_PER_BATCH", 1, "DATALOADER.NUM_WORKERS", 0, "MODEL.DEVICE", "cpu"]
    return get_cfg("d2go/mask_rcnn_fbnetv3a_C4", overrides)


@pytest.fixture(scope="module")
def detector(cfg, test_data):
    return build_detector(cfg, test_data / "weights" / "mask_rcnn_fbnetv3a_float.pth")


def test_scores_of_a_loader_are_those_of_the_command(cfg, detector, dataset, tmp_path, caplog):
    (loader,) = make_data_loader(cfg, is_train=False, dataset=dataset)
    expected, _ = measure_dataset(detector, "mini", dataset, progress=False)
    with caplog.at_level(logging.INFO, logger="maskrcnn_lib"):
        scores = inference(
            detector.model,
            loader,
            dataset_name="mini",
            iou_types=("bbox", "segm"),
            box_only=False,
            device="cpu",
            expected_results=[["bbox", "AP", [expected["bbox"].metrics["AP"], 0.001]]],
            expected_results_sigma_tol=4,
            output_folder=tmp_path,
            dialect=cfg.MODEL.DIALECT,
        )
    assert set(scores) == {"bbox", "segm"}
    assert expected["bbox"].metrics["AP"] > 0.2
    for kind, score in scores.items():
        # the images are decoded and resized by the same code
        assert score.metrics == pytest.approx(expected[kind].metrics, abs=1e-6)
        assert (tmp_path / f"{kind}.json").is_file()
    assert "PASS: mini/bbox/AP" in caplog.text and f"mini: {IMAGES} images" in caplog.text


def test_images_that_a_loader_leaves_out_are_counted(cfg, detector, dataset, caplog):
    (loader,) = make_data_loader(cfg, is_train=False, dataset=dataset)

    class Part:
        def __init__(self):
            self.dataset = loader.dataset

        def __iter__(self):
            return (batch for number, batch in enumerate(loader) if number < 2)

    scores = inference(detector.model, Part(), "mini", device="cpu", dialect="d2go")
    assert set(scores) == {"bbox"}
    assert f"2 of the {IMAGES} images" in caplog.text


def test_what_is_not_done_is_refused(cfg, detector, dataset):
    (loader,) = make_data_loader(cfg, is_train=False, dataset=dataset)
    with pytest.raises(ValueError, match="bbox_aug"):
        inference(detector.model, loader, "mini", bbox_aug=True, device="cpu")
