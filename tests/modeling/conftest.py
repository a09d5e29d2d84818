"""A Mask R-CNN that is small enough to train in a test, and ground truth for it."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

TINY = {
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
    "MODEL.RESNETS.BACKBONE_OUT_CHANNELS": 16,
    "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM": 32,
    "MODEL.ROI_BOX_HEAD.CONV_HEAD_DIM": 16,
    "MODEL.ROI_BOX_HEAD.NUM_CLASSES": 4,
    "MODEL.ROI_MASK_HEAD.CONV_LAYERS": [16, 16],
    "MODEL.BACKBONE.FREEZE_CONV_BODY_AT": 0,
    "MODEL.RPN.PRE_NMS_TOP_N_TRAIN": 200,
    "MODEL.RPN.POST_NMS_TOP_N_TRAIN": 50,
    "MODEL.RPN.FPN_POST_NMS_TOP_N_TRAIN": 50,
    "MODEL.RPN.FPN_POST_NMS_PER_BATCH": False,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 64,
}


@pytest.fixture(scope="session")
def make_tiny_model() -> Callable[..., nn.Module]:
    """A function from config keys to a model in training mode, always with the same weights."""

    def make(name: str = "e2e_mask_rcnn_R_50_FPN_1x", **overrides: Any) -> nn.Module:
        keys = TINY | {key.replace("__", "."): value for key, value in overrides.items()}
        torch.manual_seed(0)
        flat = [item for pair in keys.items() for item in pair]
        return build_detection_model(get_cfg(name, flat)).train()

    return make


@pytest.fixture(scope="session")
def make_target() -> Callable[..., BoxList]:
    """A function from boxes and labels to the ground truth of an image; masks fill the boxes."""

    def make(
        boxes: Sequence[Sequence[float]], labels: Sequence[int], size: tuple[int, int] = (96, 96)
    ) -> BoxList:
        target = BoxList(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), size)
        target.add_field("labels", torch.tensor(labels, dtype=torch.int64))
        outlines = [[[x1, y1, x2, y1, x2, y2, x1, y2]] for x1, y1, x2, y2 in boxes]
        target.add_field("masks", SegmentationMask(outlines, size))
        return target

    return make


@pytest.fixture(scope="session")
def toy_batch(make_target: Callable[..., BoxList]) -> tuple[torch.Tensor, list[BoxList]]:
    """Two images of bright rectangles on noise, and what is on them."""
    targets = [
        make_target([[8, 8, 56, 48], [40, 50, 90, 92]], [1, 2]),
        make_target([[30, 10, 88, 70]], [3]),
    ]
    return _pictures(targets), targets


def _pictures(targets: Sequence[BoxList]) -> torch.Tensor:
    """Noise with a bright rectangle, in the colour of its class, for each object."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(len(targets), 3, 96, 96, generator=generator)
    for image, target in zip(images, targets, strict=True):
        for box, label in zip(target.bbox.long().tolist(), target.get_field("labels"), strict=True):
            x1, y1, x2, y2 = box
            image[int(label) - 1, y1:y2, x1:x2] += 4
    return images
