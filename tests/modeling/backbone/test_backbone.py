"""Backbones by name and as a whole: torchvision's values, compilation, layout, precision."""

import re
from functools import partial

import pytest
import torch

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.layers.batch_norm import FrozenBatchNorm2d
from maskrcnn_lib.modeling.backbone import build_backbone
from maskrcnn_lib.modeling.backbone.backbone import Backbone, build_resnet_head
from maskrcnn_lib.modeling.backbone.fbnetv3 import FBNetV3Body, get_architecture
from maskrcnn_lib.modeling.backbone.fpn import FPN, LastLevelMaxPool
from maskrcnn_lib.modeling.backbone.resnet import ResNet
from maskrcnn_lib.modeling.fuse import fuse_frozen_norms
from maskrcnn_lib.modeling.registry import BACKBONES

BODIES = {
    "R-50-C4": (1024, [16]),
    "R-50-C5": (2048, [32]),
    "R-101-C4": (1024, [16]),
    "R-101-C5": (2048, [32]),
    "R-152-C4": (1024, [16]),
    "R-50-FPN": (256, [4, 8, 16, 32, 64]),
    "R-101-FPN": (256, [4, 8, 16, 32, 64]),
    "R-152-FPN": (256, [4, 8, 16, 32, 64]),
    "FBNetV3-A-C4": (112, [16]),
    "MobileNetV2-C4": (256, [16]),
    "FBNetV3-A-dsmask-C4": (88, [16]),
    "FBNet": (96, [16]),
}


def build(name, *overrides):
    keys = ["MODEL.BACKBONE.CONV_BODY", name, "MODEL.RESNETS.BACKBONE_OUT_CHANNELS", 256]
    return build_backbone(get_cfg(overrides=[*keys, *overrides]))


@pytest.mark.parametrize("name", BODIES)
def test_every_name_gives_maps_of_its_stride_and_channels(name):
    channels, strides = BODIES[name]
    with torch.device("meta"):
        backbone = build(name)
        maps = backbone(torch.empty(2, 3, 128, 192))
    assert backbone.out_channels == channels
    assert [m.shape for m in maps] == [(2, channels, 128 // s, 192 // s) for s in strides]


def test_registered_names_are_the_tested_ones():
    assert set(BODIES) <= set(BACKBONES)


def test_unknown_name_mentions_the_nearest():
    with pytest.raises(KeyError, match="R-50-FPN"):
        build("R50-FPN")


def test_resnext_and_freezing_come_from_the_config():
    overrides = ["MODEL.RESNETS.NUM_GROUPS", 32, "MODEL.RESNETS.WIDTH_PER_GROUP", 8]
    overrides += ["MODEL.RESNETS.STRIDE_IN_1X1", False, "MODEL.BACKBONE.FREEZE_CONV_BODY_AT", 3]
    with torch.device("meta"):
        body = build("R-101-FPN", *overrides).body
    assert body.layer2[0].conv2.weight.shape == (512, 16, 3, 3)
    assert body.layer2[0].conv2.stride == (2, 2)
    frozen = {n.split(".")[0] for n, p in body.named_parameters() if not p.requires_grad}
    assert frozen == {"stem", "layer1", "layer2"}


def test_group_norm_comes_from_the_config():
    names = [
        "MODEL.RESNETS.STEM_FUNC",
        "StemWithGN",
        "MODEL.RESNETS.TRANS_FUNC",
        "BottleneckWithGN",
    ]
    groups = ["MODEL.GROUP_NORM.NUM_GROUPS", 16, "MODEL.FPN.USE_GN", True]
    with torch.device("meta"):
        backbone = build("R-50-FPN", *names, *groups)
        with pytest.raises(ValueError, match="TRANS_FUNC"):
            build("R-50-FPN", *names[:2])
    assert not any(isinstance(m, FrozenBatchNorm2d) for m in backbone.modules())
    assert backbone.body.stem.bn1.num_groups == 16
    assert backbone.fpn.fpn_inner1[1].num_groups == 16


def test_c5_body_can_be_dilated_and_keeps_the_stride_of_c4():
    overrides = ["MODEL.RESNETS.RES5_DILATION", 2]
    with torch.device("meta"):
        (dilated,) = build("R-50-C5", *overrides)(torch.empty(1, 3, 96, 64))
        (strided,) = build("R-50-C5")(torch.empty(1, 3, 96, 64))
        (without_res5,) = build("R-50-C4", *overrides)(torch.empty(1, 3, 96, 64))
    assert dilated.shape == (1, 2048, 6, 4)
    assert strided.shape == (1, 2048, 3, 2)
    assert without_res5.shape == (1, 1024, 6, 4)


def test_resnet_head_fits_the_c4_body():
    cfg = get_cfg(overrides=["MODEL.RESNETS.RES5_DILATION", 2])
    with torch.device("meta"):
        head = build_resnet_head(cfg)
        rois = head(torch.empty(3, build_backbone(cfg).out_channels, 14, 14))
    assert rois.shape == (3, 2048, 14, 14)
    assert {name.split(".")[0] for name in head.state_dict()} == {"layer4"}


def small_backbone():
    """Every kind of layer of an FPN backbone, in small."""
    options = {"res2_out_channels": 32, "num_groups": 2, "width_per_group": 4}
    body = ResNet((1, 2, 1, 1), (1, 2, 3, 4), **options)
    fpn = FPN(body.out_channels, 16, top_block=LastLevelMaxPool())
    return Backbone(body, fpn, out_channels=16)


def fbnet_backbone():
    return Backbone(FBNetV3Body(get_architecture("FBNetV3-A-C4")), out_channels=112)


@pytest.mark.parametrize("make", [small_backbone, fbnet_backbone])
@pytest.mark.parametrize("fused", [False, True])
def test_compiles_as_one_graph(make, fused):
    torch.manual_seed(0)
    backbone = make().eval()
    if fused:
        fuse_frozen_norms(backbone)
    compiled = torch.compile(backbone, fullgraph=True, backend="aot_eager")
    x = torch.randn(1, 3, 75, 64)
    for mine, reference in zip(compiled(x), backbone(x), strict=True):
        torch.testing.assert_close(mine, reference)


@pytest.mark.slow
def test_compiles_to_machine_code_as_one_graph():
    torch.manual_seed(0)
    backbone = small_backbone().eval()
    compiled = torch.compile(backbone, fullgraph=True)
    x = torch.randn(1, 3, 75, 64)
    with torch.no_grad():
        for mine, reference in zip(compiled(x), backbone(x), strict=True):
            # fused kernels round elsewhere
            torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [small_backbone, fbnet_backbone, partial(build, "FBNet")])
def test_channels_last_goes_through(make):
    backbone = make().to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 64, 96).to(memory_format=torch.channels_last)
    maps = backbone(x)
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in maps)


@pytest.mark.parametrize("make", [small_backbone, fbnet_backbone, partial(build, "FBNet")])
def test_nothing_promotes_to_float32_under_autocast(make):
    backbone = make()
    dtypes = set()
    for module in backbone.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _m, _i, output: dtypes.add(_dtype(output)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = backbone(torch.randn(1, 3, 64, 64))
    assert {m.dtype for m in maps} | dtypes == {torch.bfloat16}


def _dtype(output):
    return output[0].dtype if isinstance(output, list) else output.dtype


@pytest.mark.parametrize("size", [(128, 96), (133, 75)])
@pytest.mark.parametrize("fused", [False, True])
def test_fpn_maps_equal_torchvisions(size, fused):
    detection = pytest.importorskip("torchvision.models.detection.backbone_utils")
    norm = pytest.importorskip("torchvision.ops").FrozenBatchNorm2d
    torch.manual_seed(0)
    theirs = detection.resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=norm, trainable_layers=5
    ).eval()
    randomise(theirs, norm)
    ours = build("R-50-FPN", "MODEL.RESNETS.STRIDE_IN_1X1", False).eval()
    ours.load_state_dict(our_names(theirs.state_dict()))
    if fused:
        fuse_frozen_norms(ours)
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        for mine, reference in zip(ours(x), theirs(x).values(), strict=True):
            # fp32 sums of up to 4608 products in another order, through 50 layers
            assert (mine - reference).abs().max() < 1e-5 * reference.abs().max()


def randomise(model, norm_class):
    for norm in model.modules():
        if isinstance(norm, norm_class):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0.0, 0.1)
            norm.running_mean.normal_(0.0, 0.1)
            norm.running_var.uniform_(0.5, 2.0)


def our_names(state):
    """torchvision's FPN state dict under our names; its epsilon goes into the variances."""
    renamed = {}
    for name, value in state.items():
        name = re.sub(r"^body\.(?=conv1|bn1)", "body.stem.", name)
        name = re.sub(
            r"(inner|layer)_blocks\.(\d)\.0", lambda m: f"fpn_{m[1]}{int(m[2]) + 1}", name
        )
        renamed[name] = value + 1e-5 if name.endswith("running_var") else value
    return renamed
