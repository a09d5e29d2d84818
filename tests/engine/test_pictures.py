"""Normalised images look as they did before."""

import numpy as np
import pytest

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.data.transforms import build_transform
from maskrcnn_lib.engine.pictures import displayable


@pytest.mark.parametrize(
    "config", ["e2e_mask_rcnn_R_50_FPN_1x", "torchvision/maskrcnn_resnet50_fpn"]
)
def test_displayable_undoes_the_normalisation(config):
    cfg = get_cfg(config, ["INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 64])
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    shown = displayable(build_transform(cfg)(image), cfg)
    assert np.abs(shown.astype(int) - image).max() <= 1
