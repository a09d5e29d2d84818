"""Detectors to export."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.engine.detector import Detector
from maskrcnn_lib.engine.inference import build_detector, make_detector
from maskrcnn_lib.layers._library import ops_available
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.modeling.fuse import fuse_frozen_norms

from ..test_overfitting import PHOTOS as LEARNED_PHOTOS
from ..test_overfitting import four_photos, learn

PHOTOS = Path(__file__).parents[2] / "demo" / "images"
# All layers of a ResNet-50 with FPN, but narrow ones; few proposals, so that it is a question of
# the file whether they are the same, and not of the last bit of two nearly equal scores.
NARROW = {
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
    "MODEL.RESNETS.BACKBONE_OUT_CHANNELS": 16,
    "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM": 32,
    "MODEL.ROI_BOX_HEAD.NUM_CLASSES": 4,
    "MODEL.ROI_MASK_HEAD.CONV_LAYERS": [16, 16],
    "MODEL.RPN.PRE_NMS_TOP_N_TEST": 100,
    "MODEL.RPN.POST_NMS_TOP_N_TEST": 40,
    "MODEL.RPN.FPN_POST_NMS_TOP_N_TEST": 40,
    "INPUT.MIN_SIZE_TEST": 160,
    "INPUT.MAX_SIZE_TEST": 240,
}


# Standard deviations of last layers' weights, and of those that find the offsets of deformations.
SPREAD = {"cls_logits": 0.3, "cls_score": 0.3, "mask_fcn_logits": 0.3, "fc_logits": 0.01}
SPREAD |= {"bbox_pred": 0.05, "kps_score_lowres": 0.1, "fc_mask_iou": 0.1, "offset": 0.02}
# A model that learns four photos in a minute or two.
BRIEFLY = {
    "INPUT.MIN_SIZE_TRAIN": (160,),
    "INPUT.MAX_SIZE_TRAIN": 240,
    "INPUT.MIN_SIZE_TEST": 160,
    "INPUT.MAX_SIZE_TEST": 240,
    "DATALOADER.ASPECT_RATIO_GROUPING": False,
    "MODEL.BACKBONE.FREEZE_CONV_BODY_AT": 4,
    "MODEL.RPN.STRADDLE_THRESH": -1,
    "MODEL.RPN.FPN_POST_NMS_TOP_N_TRAIN": 200,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 64,
}


@pytest.fixture(scope="session", autouse=True)
def quiet_exporter() -> Iterator[None]:
    """Without torch's notes on each node of a graph, among which a failure is not to be found."""
    loggers = [logging.getLogger(name) for name in ("torch.__trace", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def random_detector() -> Callable[..., Detector]:
    """A function from a config and its keys to a detector with random weights that finds things."""
    if not ops_available():
        pytest.skip("needs the compiled operators")

    def make(name: str, **keys: Any) -> Detector:
        cfg = get_cfg(name, [item for pair in keys.items() for item in pair])
        torch.manual_seed(0)
        model = build_detection_model(cfg).eval()
        for part, layer in model.named_modules():  # scores, boxes and masks that differ
            kind = part.rpartition(".")[2]
            if hasattr(layer, "weight") and kind in SPREAD:
                torch.nn.init.normal_(layer.weight, std=SPREAD[kind])
                torch.nn.init.zeros_(layer.bias)
            elif "_tower." in part and hasattr(layer, "kernel_size"):
                torch.nn.init.kaiming_normal_(layer.weight)
        names = ["__background", "one", "two", "three"]
        model = fuse_frozen_norms(model).to(memory_format=torch.channels_last)
        return make_detector(cfg, model, device=torch.device("cpu"), class_names=names)

    return make


@pytest.fixture(scope="session")
def narrow_detector(random_detector: Callable[..., Detector]) -> Callable[..., Detector]:
    """The same with a ResNet-50 of few channels, where that is the body."""
    return lambda name, **keys: random_detector(name, **(NARROW | keys))


@pytest.fixture(scope="session")
def photo() -> Callable[[str], np.ndarray]:
    """A function from a name to an RGB photo."""
    return lambda name: np.asarray(Image.open(PHOTOS / f"{name}.jpg").convert("RGB"))


@pytest.fixture(scope="session")
def learned_photos(test_data: Path) -> list[np.ndarray]:
    """The four photos that ``trained_model`` knows."""
    folder = test_data / "coco_mini" / "train2017"
    files = [folder / f"{number:012d}.jpg" for number in LEARNED_PHOTOS]
    return [np.asarray(Image.open(file).convert("RGB")) for file in files]


@pytest.fixture(scope="session")
def trained_model(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """A function from keys to Mask R-CNN with a full ResNet-50-FPN that knows four photos.

    Its body was trained on ImageNet and everything else a moment on the photos: scores, boxes and
    masks are as far apart as those of real models, other than with random weights, where the last
    bits of sums decide.
    """
    mini, folder = test_data / "coco_mini", tmp_path_factory.mktemp("trained")
    content = four_photos(mini / "annotations" / "instances_train2017.json")
    settings = {
        **BRIEFLY,
        "MODEL.ROI_BOX_HEAD.NUM_CLASSES": 1 + len(content["categories"]),
        "MODEL.WEIGHT": str(test_data / "weights" / "R-50.pkl"),
        "SOLVER.MAX_ITER": 40,
    }
    cfg, _ = learn(folder, mini / "train2017", content, "e2e_mask_rcnn_R_50_FPN_1x", settings)
    weights = folder / "run" / "model_final.safetensors"

    def build(*keys: Any, **arguments: Any) -> Detector:
        changed = cfg.clone()
        changed.merge_from_list(keys)
        return build_detector(changed, weights, pack=False, **arguments)

    return build
