"""A model learns four real photos by heart: everything from files to gradients fits together."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from maskrcnn_lib import COCODemo
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.engine.training import run_training
from maskrcnn_lib.evaluation.categories import match_categories
from maskrcnn_lib.evaluation.coco_eval import evaluate_coco
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.boxlist_ops import boxlist_iou

# COCO train2017: motorcycle and person; two dogs and a toilet; dog, person, refrigerator and
# handbag; four cows. The smallest object is 80 pixels across.
PHOTOS = (84533, 173350, 418049, 420862)
# Motorcycle and person; four cows; two giraffes, one before the other; a toilet.
APART = (84533, 420862, 57345, 191381)
# What D2Go's model says last is not taken over: classes, box corrections and masks begin anew.
LAST_LAYERS = ("roi_heads.box_predictor.", "roi_heads.mask_head.predictor.")
SETTINGS = {
    "DATALOADER.NUM_WORKERS": 0,
    "INPUT.HORIZONTAL_FLIP_PROB_TRAIN": 0.0,
    "MODEL.DEVICE": "cpu",
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.REFERENCE_BATCH": 4,
    "SOLVER.OPTIMIZER": "ADAMW",
    "SOLVER.BASE_LR": 0.0005,
    "SOLVER.BIAS_LR_FACTOR": 1.0,
    "SOLVER.CLIP_GRADIENTS": 5.0,
    "SOLVER.SCHEDULE": "cosine",
    "SOLVER.STEPS": (),
    "SOLVER.WARMUP_ITERS": 10,
    "SOLVER.LOG_PERIOD": 10,
}


def short_side(pixels):
    """Photos of this height or width, the smaller one; the other is at most half as much again."""
    sizes = {}
    for phase, side in (("TRAIN", (pixels,)), ("TEST", pixels)):
        sizes |= {f"INPUT.MIN_SIZE_{phase}": side, f"INPUT.MAX_SIZE_{phase}": pixels * 3 // 2}
    return sizes | {"DATALOADER.ASPECT_RATIO_GROUPING": False}


# For two stages: of everything less is looked at, as there are but two or three objects a photo.
FEW_REGIONS = {
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 64,
    "MODEL.RPN.POST_NMS_TOP_N_TRAIN": 200,
    "MODEL.RPN.STRADDLE_THRESH": -1,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 64,
    "TEST.DETECTIONS_PER_IMG": 20,
}


def four_photos(annotations, photos=PHOTOS):
    """The data set cut down to four photos and the classes in them."""
    content = json.loads(annotations.read_text())
    objects = [item for item in content["annotations"] if item["image_id"] in photos]
    classes = {item["category_id"] for item in objects}
    return {
        "images": [image for image in content["images"] if image["id"] in photos],
        "annotations": objects,
        "categories": [item for item in content["categories"] if item["id"] in classes],
    }


def learn(folder, images, content, name, settings):
    """Trains a model on the photos; returns its config and what it then finds on them, by kind."""
    photos = folder / "four.json"
    photos.write_text(json.dumps(content))
    source = (f"coco:{photos}:{images}",)
    settings = {
        **SETTINGS,
        **settings,
        "DATASETS.TRAIN": source,
        "DATASETS.TEST": source,
        "OUTPUT_DIR": str(folder / "run"),
    }
    cfg = get_cfg(name, [word for setting in settings.items() for word in setting])
    run_training(cfg, device=torch.device("cpu"))
    found = (folder / "run" / "inference" / "four").glob("*.json")
    return cfg, {path.stem: json.loads(path.read_text()) for path in found}


def ap50(content, found, kind):
    return evaluate_coco(content, found[kind], kind, backend="pycocotools").metrics["AP50"]


@pytest.mark.slow
def test_four_photos_are_learned_by_heart(test_data, tmp_path):
    mini, weights = test_data / "coco_mini", tmp_path / "weights.pth"
    content = four_photos(mini / "annotations" / "instances_train2017.json")
    published = torch.load(test_data / "weights" / "mask_rcnn_fbnetv3a_float.pth")
    kept = {name: value for name, value in published.items() if not name.startswith(LAST_LAYERS)}
    assert len(kept) == len(published) - 6
    torch.save(kept, weights)
    settings = {
        "MODEL.ROI_BOX_HEAD.NUM_CLASSES": 1 + len(content["categories"]),
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 64,
        "MODEL.RPN.POST_NMS_TOP_N_TRAIN": 200,
        "MODEL.WEIGHT": str(weights),
        "SOLVER.MAX_ITER": 60,
    }
    model = "d2go/mask_rcnn_fbnetv3a_C4"
    _, found = learn(tmp_path, mini / "train2017", content, model, settings)
    assert ap50(content, found, "bbox") > 0.95
    assert ap50(content, found, "segm") > 0.95


@pytest.mark.slow
def test_fbnet_learns_four_photos_by_heart_from_nothing(test_data, tmp_path):
    """All weights are random at first."""
    mini = test_data / "coco_mini"
    content = four_photos(mini / "annotations" / "instances_train2017.json", APART)
    settings = {
        **short_side(128),
        "MODEL.ROI_BOX_HEAD.NUM_CLASSES": 1 + len(content["categories"]),
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 64,
        "MODEL.RPN.POST_NMS_TOP_N_TRAIN": 200,
        "MODEL.RPN.STRADDLE_THRESH": -1,
        "SOLVER.MAX_ITER": 130,
    }
    _, found = learn(tmp_path, mini / "train2017", content, "e2e_mask_rcnn_fbnet", settings)
    for kind in ("bbox", "segm"):
        assert ap50(content, found, kind) > 0.9


@pytest.mark.slow
def test_yolof_learns_four_photos_by_heart(test_data, tmp_path, monkeypatch):
    """Encoder and head begin with random weights; of the body the last stage learns. Of PHOTOS, no
    anchor of the single map of 7 x 5 cells covers enough of the refrigerator to learn from it, and
    two dogs and a toilet side by side take longer than this."""
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(test_data / "weights"))
    mini = test_data / "coco_mini"
    annotations = mini / "annotations" / "instances_train2017.json"
    content = four_photos(annotations, APART)
    assert len(content["annotations"]) == 9
    settings = {
        **short_side(160),
        "INPUT.SHIFT.PROB": 0.0,
        "MODEL.BACKBONE.FREEZE_CONV_BODY_AT": 4,
        "MODEL.YOLOF.NUM_CLASSES": 1 + len(content["categories"]),
        "SOLVER.BASE_LR": 0.001,
        "SOLVER.CHECKPOINT_PERIOD": 130,
        "SOLVER.MAX_EPOCH": 0,
        "SOLVER.MAX_ITER": 130,
    }
    model = "mmdet/yolof_r50-c5_8xb8-1x_coco"
    _, found = learn(tmp_path, mini / "train2017", content, model, settings)
    assert ap50(content, found, "bbox") > 0.9


@pytest.mark.slow
def test_rfcn_learns_four_photos_by_heart(test_data, tmp_path, monkeypatch):
    """RPN and score maps begin with random weights; of the body the dilated last stage learns."""
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(test_data / "weights"))
    mini = test_data / "coco_mini"
    content = four_photos(mini / "annotations" / "instances_train2017.json", APART)
    settings = {
        **short_side(192),
        **FEW_REGIONS,
        "MODEL.BACKBONE.FREEZE_CONV_BODY_AT": 4,
        "MODEL.ROI_BOX_HEAD.NUM_CLASSES": 1 + len(content["categories"]),
        "SOLVER.MAX_ITER": 60,
    }
    model = "maskrcnn_lib/rfcn_R_50_C5_1x"
    _, found = learn(tmp_path, mini / "train2017", content, model, settings)
    assert ap50(content, found, "bbox") > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (
            "mmdet/point-rend_r50-caffe_fpn_ms-1x_coco",
            {"MODEL.RESNETS.WITH_MODULATED_DCN": True, "SOLVER.MAX_ITER": 60},
        ),
        (
            "mmdet/ms-rcnn_r50-caffe_fpn_1x_coco",
            {
                "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.5,
                "MODEL.ROI_MASK_HEAD.CONV_LAYERS": (128, 128),
                "SOLVER.BASE_LR": 0.001,
                "SOLVER.MAX_ITER": 65,
            },
        ),
    ],
    ids=["point_rend", "mask_scoring"],
)
def test_deformable_bodies_and_finer_masks_learn_four_photos_by_heart(
    test_data, tmp_path, monkeypatch, model, settings
):
    """PointRend and Mask Scoring, each on a body whose last stage is deformable, of version 2 and
    of version 1. Only this stage and what stands on it learn."""
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(test_data / "weights"))
    mini = test_data / "coco_mini"
    content = four_photos(mini / "annotations" / "instances_train2017.json", APART)
    settings = settings | {
        **short_side(160),
        **FEW_REGIONS,
        "MODEL.BACKBONE.FREEZE_CONV_BODY_AT": 4,
        "MODEL.RESNETS.STAGE_WITH_DCN": (False, False, False, True),
        "MODEL.ROI_BOX_HEAD.NUM_CLASSES": 1 + len(content["categories"]),
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 32,
        "SOLVER.CHECKPOINT_PERIOD": 60,
        "SOLVER.MAX_EPOCH": 0,
    }
    _, found = learn(tmp_path, mini / "train2017", content, model, settings)
    for kind in ("bbox", "segm"):
        assert ap50(content, found, kind) > 0.9
    learnt = load_file(tmp_path / "run" / "model_final.safetensors")
    offsets = [value for name, value in learnt.items() if name.endswith("conv2.offset.weight")]
    assert len(offsets) == 3 and all(value.any() for value in offsets)  # all began as zeros


@pytest.mark.slow
def test_retinanet_learns_four_photos_by_heart_and_shows_them(test_data, tmp_path, monkeypatch):
    """Pyramid and head begin with random weights; then COCODemo loads what training wrote."""
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(test_data / "weights"))
    images = test_data / "coco_mini" / "train2017"
    content = four_photos(test_data / "coco_mini" / "annotations" / "instances_train2017.json")
    settings = {
        **short_side(128),
        "MODEL.RETINANET.NUM_CLASSES": 1 + len(content["categories"]),
        "SOLVER.MAX_ITER": 200,
    }
    model = "retinanet/retinanet_R-50-FPN_1x"
    cfg, _ = learn(tmp_path, images, content, model, settings)
    weights = tmp_path / "run" / "model_final.safetensors"
    demo = COCODemo(cfg, confidence_threshold=0.9, weights=weights)
    photos = [
        np.asarray(Image.open(images / image["file_name"]).convert("RGB"))[..., ::-1]
        for image in content["images"]
    ]
    names = {item["id"]: item["name"] for item in content["categories"]}
    everything = demo.compute_predictions(photos)  # a batch: its padding is learned by heart, too
    ids = match_categories(demo.CATEGORIES, names)
    found = [
        result
        for image, predictions in zip(content["images"], everything, strict=True)
        for result in predictions.to_coco(image_id=image["id"], category_ids=ids)
    ]
    assert ap50(content, {"bbox": found}, "bbox") > 0.9
    for image, predictions in zip(content["images"], everything, strict=True):
        top = demo.select_top_predictions(predictions)
        classes = [demo.class_name(label) for label in top.get_field("labels").tolist()]
        for item in content["annotations"]:
            if item["image_id"] == image["id"]:
                truth = BoxList([item["bbox"]], top.size, mode="xywh").convert("xyxy")
                overlap, name = max(zip(boxlist_iou(truth, top)[0].tolist(), classes, strict=True))
                assert overlap > 0.5 and name == names[item["category_id"]]
    drawn = demo.run_on_opencv_image(photos[0])
    assert drawn.shape == photos[0].shape and (drawn != photos[0]).any()
