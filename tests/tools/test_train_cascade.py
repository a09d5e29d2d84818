"""A cascade goes through training, saving and evaluation as every model, and learns four photos by
heart."""

import json
import logging

import pytest

from maskrcnn_lib.tools.train_net import train

# A body and proposals that know photos; the stages of the cascade begin with random weights.
CONFIG = "balloon/mask_rcnn_fbnetv3a_C4"
PHOTOS = 4
CASCADE = [
    *("MODEL.ROI_BOX_CASCADE_HEAD.IOUS", (0.5, 0.6, 0.7), "MODEL.CLS_AGNOSTIC_BBOX_REG", True),
    *("MODEL.ROI_BOX_HEAD.FEATURE_EXTRACTOR", "FPN2MLPFeatureExtractor"),
    *("MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", 256, "MODEL.DIALECT", "mmdet", "MODEL.MASK_ON", False),
]
SMALL = [
    *("INPUT.MIN_SIZE_TRAIN", (256,), "INPUT.MAX_SIZE_TRAIN", 384),
    *("INPUT.MIN_SIZE_TEST", 256, "INPUT.MAX_SIZE_TEST", 384),
    *("INPUT.HORIZONTAL_FLIP_PROB_TRAIN", 0.0, "DATALOADER.NUM_WORKERS", 0),
]
# One batch of all photos again and again.
SCHEDULE = [
    *("SOLVER.BASE_LR", 1e-3, "SOLVER.IMS_PER_BATCH", PHOTOS, "SOLVER.REFERENCE_BATCH", 0),
    *("SOLVER.MAX_EPOCH", 0, "SOLVER.MAX_ITER", 100, "SOLVER.CHECKPOINT_PERIOD", 1000),
    *("SOLVER.TEST_PERIOD", 0, "DATALOADER.ASPECT_RATIO_GROUPING", False),
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
    output = "OUTPUT_DIR", str(tmp_path / "run"), "MODEL.DEVICE", "cpu"
    overrides = [*CASCADE, *SMALL, *SCHEDULE, *output]
    scores = train(CONFIG, train_data=data, val_data=data, overrides=overrides)
    (ap50,) = (value for name, value in scores.items() if name.endswith("bbox/AP50"))
    assert ap50 > 0.9
