"""R-FCN under Detectron's blob names: every parameter arrives, and none is left over."""

import re

import pytest
import torch

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.detector import build_detection_model

KEYS = {
    "MODEL.LOAD_PROPOSALS": True,  # Detectron's R-FCN has no RPN of its own
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
    "MODEL.RESNETS.BACKBONE_OUT_CHANNELS": 128,
    "MODEL.RFCN.REDUCED_CHANNELS": 16,
}
PARAMETER = {"weight": "w", "bias": "b"}
BRANCH = {"conv1": "2a", "conv2": "2b", "conv3": "2c", "downsample.0": "1"}
NORM = {"bn1": "2a", "bn2": "2b", "bn3": "2c", "downsample.1": "1"}
HEAD = "roi_heads.box.feature_extractor."


def blob_name(name: str) -> str:
    """Detectron's name of a parameter."""
    if name.startswith(HEAD):
        layer, parameter = name.removeprefix(HEAD).rsplit(".", 1)
        return f"{layer.replace('reduce.0', 'conv_dim_reduce')}_{PARAMETER[parameter]}"
    if name.startswith("backbone.body.stem."):
        blob = {"conv1.weight": "conv1_w", "bn1.weight": "res_conv1_bn_s"}
        return blob.get(name.removeprefix("backbone.body.stem."), "res_conv1_bn_b")
    stage, block, layer, parameter = re.fullmatch(
        r"backbone\.body\.layer(\d)\.(\d+)\.(.*)\.(weight|bias)", name
    ).groups()
    home = f"res{int(stage) + 1}_{block}_branch"
    if layer in BRANCH:
        return f"{home}{BRANCH[layer]}_w"
    return f"{home}{NORM[layer]}_bn_{'s' if parameter == 'weight' else 'b'}"


@pytest.mark.parametrize("agnostic", [True, False])
def test_detectrons_blobs_fill_the_model(agnostic):
    keys = {**KEYS, "MODEL.CLS_AGNOSTIC_BBOX_REG": agnostic}
    cfg = get_cfg("maskrcnn_lib/rfcn_R_50_C5_1x", [w for pair in keys.items() for w in pair])
    model = build_detection_model(cfg)
    state = {
        name: torch.randn(value.shape)
        for name, value in model.state_dict().items()
        if not name.endswith(("running_mean", "running_var"))
    }
    blobs = {blob_name(name): value for name, value in state.items()}
    assert len(blobs) == len(state)
    report = load_weights(model, blobs)
    assert not report.missing and not report.unexpected
    loaded = model.state_dict()
    for name in (f"{HEAD}conv_cls.weight", f"{HEAD}reduce.0.bias"):
        assert torch.equal(loaded[name], state[name])
    name = "backbone.body.layer4.2.conv3.weight"
    assert torch.equal(loaded[name], state[name])
