"""Whole models on deformable bodies learn, their offsets included."""

import pytest
import torch

from maskrcnn_lib.layers import DFConv2d


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dconv", "mdconv"])
def test_four_pictures_are_learned_by_heart(make_tiny_model, learn_by_heart, kind):
    model = make_tiny_model(
        f"dcn/e2e_mask_rcnn_{kind}_R_50_FPN_1x",
        MODEL__NORM="batch",
        MODEL__RPN__STRADDLE_THRESH=-1,
        MODEL__RPN__POST_NMS_TOP_N_TEST=50,
        MODEL__RPN__FPN_POST_NMS_TOP_N_TEST=50,
    )
    learn_by_heart(model, steps=150)
    offsets = [layer.offset for layer in model.modules() if isinstance(layer, DFConv2d)]
    assert len(offsets) == 4 + 6 + 3
    assert all(torch.count_nonzero(layer.weight) for layer in offsets)  # all began as zeros
