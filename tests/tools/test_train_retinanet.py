"""RetinaNet goes through training, evaluation and COCODemo as every model, and learns four photos
by heart."""

import json
import logging

import cv2
import pytest

from maskrcnn_lib import COCODemo, get_cfg
from maskrcnn_lib.tools.train_net import train

CONFIG = "retinanet/retinanet_R-50-FPN_1x"
PHOTOS = 4
SMALL = [
    *("INPUT.MIN_SIZE_TRAIN", (256,), "INPUT.MAX_SIZE_TRAIN", 384),
    *("INPUT.MIN_SIZE_TEST", 256, "INPUT.MAX_SIZE_TEST", 384),
    *("INPUT.HORIZONTAL_FLIP_PROB_TRAIN", 0.0, "DATALOADER.NUM_WORKERS", 0),
]
# One batch of all photos again and again; the rate is that of fine-tuning.
SCHEDULE = [
    *("SOLVER.OPTIMIZER", "ADAMW", "SOLVER.BASE_LR", 2e-4, "SOLVER.BIAS_LR_FACTOR", 1.0),
    *("SOLVER.CLIP_GRADIENTS", 5.0, "SOLVER.IMS_PER_BATCH", PHOTOS, "SOLVER.WARMUP_ITERS", 10),
    *("SOLVER.SCHEDULE", "cosine", "SOLVER.STEPS", (), "SOLVER.MAX_ITER", 120),
    *("DATALOADER.ASPECT_RATIO_GROUPING", False),
]


@pytest.fixture(autouse=True)
def logger_as_before():
    """Training makes the package's logger write to files of its own."""
    logger = logging.getLogger("maskrcnn_lib")
    before = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])


@pytest.mark.slow
@pytest.mark.data
def test_four_photos_are_learned_by_heart(test_data, tmp_path, monkeypatch):
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(test_data / "weights"))
    folder = test_data / "balloon" / "train"
    content = json.loads((test_data / "balloon" / "instances_train.json").read_text())
    content["images"] = content["images"][:PHOTOS]
    known = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in known]
    annotations = tmp_path / "four.json"
    annotations.write_text(json.dumps(content))
    data = annotations, folder
    output = tmp_path / "run"
    overrides = [*SMALL, *SCHEDULE, "OUTPUT_DIR", str(output), "MODEL.DEVICE", "cpu"]
    scores = train(CONFIG, train_data=data, val_data=data, overrides=overrides)
    (ap50,) = (value for name, value in scores.items() if name.endswith("bbox/AP50"))
    assert ap50 > 0.9

    cfg = get_cfg(output / "config.yaml", ["MODEL.WEIGHT", str(output / "model_final.pth")])
    demo = COCODemo(cfg, confidence_threshold=0.5)
    image = cv2.imread(str(folder / content["images"][0]["file_name"]))
    found = demo.select_top_predictions(demo.compute_prediction(image))
    objects = [a for a in content["annotations"] if a["image_id"] == content["images"][0]["id"]]
    assert len(found) >= len(objects)
    assert demo.categories[1] == "balloon"
