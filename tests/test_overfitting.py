"""A model learns four real photos by heart: everything from files to gradients fits together."""

import json

import pytest
import torch

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.engine.training import run_training
from maskrcnn_lib.evaluation.coco_eval import evaluate_coco

# COCO train2017: motorcycle and person; two dogs and a toilet; dog, person, refrigerator and
# handbag; four cows. The smallest object is 80 pixels across.
PHOTOS = (84533, 173350, 418049, 420862)
# What D2Go's model says last is not taken over: classes, box corrections and masks begin anew.
LAST_LAYERS = ("roi_heads.box_predictor.", "roi_heads.mask_head.predictor.")
SETTINGS = {
    "DATALOADER.NUM_WORKERS": 0,
    "INPUT.HORIZONTAL_FLIP_PROB_TRAIN": 0.0,
    "MODEL.DEVICE": "cpu",
    "MODEL.RPN.POST_NMS_TOP_N_TRAIN": 200,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 64,
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.REFERENCE_BATCH": 4,
    "SOLVER.OPTIMIZER": "ADAMW",
    "SOLVER.BASE_LR": 0.0005,
    "SOLVER.BIAS_LR_FACTOR": 1.0,
    "SOLVER.CLIP_GRADIENTS": 5.0,
    "SOLVER.SCHEDULE": "cosine",
    "SOLVER.STEPS": (),
    "SOLVER.WARMUP_ITERS": 10,
    "SOLVER.MAX_ITER": 60,
    "SOLVER.LOG_PERIOD": 10,
}


def four_photos(annotations):
    """The data set cut down to PHOTOS and the classes in them."""
    content = json.loads(annotations.read_text())
    objects = [item for item in content["annotations"] if item["image_id"] in PHOTOS]
    classes = {item["category_id"] for item in objects}
    return {
        "images": [image for image in content["images"] if image["id"] in PHOTOS],
        "annotations": objects,
        "categories": [item for item in content["categories"] if item["id"] in classes],
    }


@pytest.mark.slow
def test_four_photos_are_learned_by_heart(test_data, tmp_path):
    photos, weights = tmp_path / "four.json", tmp_path / "weights.pth"
    content = four_photos(test_data / "coco_mini" / "annotations" / "instances_train2017.json")
    photos.write_text(json.dumps(content))
    published = torch.load(test_data / "weights" / "mask_rcnn_fbnetv3a_float.pth")
    kept = {name: value for name, value in published.items() if not name.startswith(LAST_LAYERS)}
    assert len(kept) == len(published) - 6
    torch.save(kept, weights)
    source = (f"coco:{photos}:{test_data / 'coco_mini' / 'train2017'}",)
    settings = {
        **SETTINGS,
        "DATASETS.TRAIN": source,
        "DATASETS.TEST": source,
        "MODEL.ROI_BOX_HEAD.NUM_CLASSES": 1 + len(content["categories"]),
        "MODEL.WEIGHT": str(weights),
        "OUTPUT_DIR": str(tmp_path / "run"),
    }
    words = [word for setting in settings.items() for word in setting]
    cfg = get_cfg("d2go/mask_rcnn_fbnetv3a_C4", words)
    run_training(cfg, device=torch.device("cpu"))
    for kind in ("bbox", "segm"):
        found = json.loads((tmp_path / "run" / "inference" / "four" / f"{kind}.json").read_text())
        scores = evaluate_coco(content, found, kind, backend="pycocotools")
        assert scores.metrics["AP50"] > 0.95
