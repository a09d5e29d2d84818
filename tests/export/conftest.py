"""Detectors to export."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.engine.detector import Detector
from maskrcnn_lib.engine.inference import make_detector
from maskrcnn_lib.layers._library import ops_available
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.modeling.fuse import fuse_frozen_norms

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


@pytest.fixture(scope="session")
def random_detector() -> Callable[..., Detector]:
    """A function from a config and its keys to a detector with random weights that finds things."""
    if not ops_available():
        pytest.skip("needs the compiled operators")

    def make(name: str, **overrides: Any) -> Detector:
        keys = {key.replace("__", "."): value for key, value in overrides.items()}
        cfg = get_cfg(name, [item for pair in keys.items() for item in pair])
        torch.manual_seed(0)
        model = build_detection_model(cfg).eval()
        for part, layer in model.named_modules():  # scores, boxes and masks that differ
            if part.endswith(("cls_logits", "cls_score", "mask_fcn_logits", "bbox_pred")):
                torch.nn.init.normal_(layer.weight, std=0.3)
        names = ["__background", "one", "two", "three"]
        return make_detector(
            cfg, fuse_frozen_norms(model), device=torch.device("cpu"), class_names=names
        )

    return make


@pytest.fixture(scope="session")
def narrow_detector(random_detector: Callable[..., Detector]) -> Detector:
    """Mask R-CNN with a narrow ResNet-50-FPN."""
    keys = {key.replace(".", "__"): value for key, value in NARROW.items()}
    return random_detector("torchvision/maskrcnn_resnet50_fpn", **keys)


@pytest.fixture(scope="session")
def photo() -> Callable[[str], np.ndarray]:
    """A function from a name to an RGB photo."""
    return lambda name: np.asarray(Image.open(PHOTOS / f"{name}.jpg").convert("RGB"))
