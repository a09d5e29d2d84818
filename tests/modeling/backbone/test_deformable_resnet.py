"""ResNets with deformable stages: frozen norms, precisions, compilation, and the config."""

import pytest
import torch
from torch import nn

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.layers import DFConv2d, FrozenBatchNorm2d
from maskrcnn_lib.layers.deform_conv import Deformation
from maskrcnn_lib.layers.packed import PackedConv2d, pack_layers
from maskrcnn_lib.modeling.backbone import build_backbone
from maskrcnn_lib.modeling.backbone.backbone import build_resnet_head
from maskrcnn_lib.modeling.backbone.resnet import ResNet
from maskrcnn_lib.modeling.fuse import fuse_frozen_norms

pytest.importorskip("torchvision")


def small_body(*, modulated=True, norm=FrozenBatchNorm2d):
    """A body with a plain and two deformable stages, offsets of about a pixel, and any norms."""
    torch.manual_seed(0)
    body = ResNet(
        (1, 2, 1),
        (2, 3),
        res2_out_channels=32,
        width_per_group=16,
        stride_in_1x1=False,
        deformable_stages=(2, 3),
        deformation=Deformation(modulated),
        norm=norm,
    )
    for module in body.modules():
        if isinstance(module, DFConv2d):
            nn.init.normal_(module.offset.weight, std=0.1)
        if isinstance(module, FrozenBatchNorm2d):
            module.weight.uniform_(0.5, 1.5)
            module.running_mean.normal_()
    return body


def by_plain_calls(block, x):
    """A bottleneck layer by layer, norms on the convolutions' results."""
    shortcut = block.downsample(x) if block.downsample else x
    y = block.bn1(block.conv1(x)).relu()
    y = block.bn2(block.conv2(y)).relu()
    return (block.bn3(block.conv3(y)) + shortcut).relu()


@pytest.mark.parametrize("modulated", [False, True])
def test_folded_norms_change_neither_values_nor_gradients(modulated):
    body = small_body(modulated=modulated).double()
    x = torch.randn(2, 3, 64, 48, dtype=torch.float64)
    y = body.stem(x)
    for stage in (body.layer1, body.layer2, body.layer3):
        for block in stage:
            y = by_plain_calls(block, y)
    found = body(x)[-1]
    torch.testing.assert_close(found, y)
    inputs = list(body.parameters())
    for mine, reference in zip(
        torch.autograd.grad(found.square().sum(), inputs),
        torch.autograd.grad(y.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, reference)


def test_scaled_weights_that_are_not_kept_for_the_backward_pass_are_the_same():
    body = small_body()
    x = torch.randn(2, 3, 64, 48)
    body(x)[-1].square().sum().backward()
    exact = small_body().double()
    exact(x.double())[-1].square().sum().backward()
    for mine, reference in zip(body.parameters(), exact.parameters(), strict=True):
        # fp32 sums through 12 layers; samples move, too
        error = (mine.grad.double() - reference.grad).norm() / reference.grad.norm()
        assert error < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_fused_and_packed_for_inference_the_maps_stay(dtype):
    body = small_body().eval()
    x = torch.randn(1, 3, 64, 48)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
        expected = body(x)
        pack_layers(fuse_frozen_norms(body), dtype)
        found = body(x)
    if dtype == torch.float32:
        assert isinstance(body.layer2[0].conv1, PackedConv2d)
    assert isinstance(body.layer2[0].conv2, DFConv2d)
    assert not any(isinstance(module, FrozenBatchNorm2d) for module in body.modules())
    # bfloat16 has 8 bits; 12 layers, and samples that move
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    for mine, reference in zip(found, expected, strict=True):
        assert mine.dtype == reference.dtype == dtype
        assert (mine - reference).norm() < tolerance * reference.norm()


@pytest.mark.parametrize("norm", [FrozenBatchNorm2d, nn.BatchNorm2d])
def test_trains_under_autocast_in_channels_last(norm):
    body = small_body(norm=norm).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 64, 48).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        maps = body(x)
    assert all(m.dtype == torch.bfloat16 for m in maps)
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in maps)
    sum(m.float().square().sum() for m in maps).backward()
    for name, parameter in body.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_compiles_as_one_graph_and_learns_in_it():
    body = small_body()
    x = torch.randn(1, 3, 64, 48)
    compiled = torch.compile(body, fullgraph=True, backend="aot_eager")
    results = []
    for call in (compiled, body):
        y = call(x)[-1]
        results.append([y, *torch.autograd.grad(y.square().sum(), list(body.parameters()))])
    for mine, reference in zip(*results, strict=True):
        torch.testing.assert_close(mine, reference)


def deformable_config(body, *overrides):
    stages = ["MODEL.RESNETS.STAGE_WITH_DCN", (False, False, True, True)]
    return get_cfg(overrides=["MODEL.BACKBONE.CONV_BODY", body, *stages, *overrides])


def deformable_stages(module):
    return {name.split(".")[0] for name, m in module.named_modules() if isinstance(m, DFConv2d)}


def test_the_config_says_which_stages_are_deformable_and_how():
    with torch.device("meta"):
        body = build_backbone(deformable_config("R-50-FPN")).body
        assert deformable_stages(body) == {"layer3", "layer4"}
        assert body.layer3[5].conv2.offset.out_channels == 18
        modulated = ["MODEL.RESNETS.WITH_MODULATED_DCN", True, "MODEL.RESNETS.DEFORMABLE_GROUPS", 4]
        body = build_backbone(deformable_config("R-50-FPN", *modulated)).body
        assert body.layer3[5].conv2.offset.out_channels == 4 * 27


def test_the_last_stage_of_c4_is_deformable_in_the_head():
    cfg = deformable_config("R-50-C4")
    with torch.device("meta"):
        assert deformable_stages(build_backbone(cfg).body) == {"layer3"}
        head = build_resnet_head(cfg)
        assert deformable_stages(head) == {"layer4"}
        assert head(torch.empty(3, 1024, 14, 14)).shape == (3, 2048, 7, 7)
        assert not deformable_stages(build_resnet_head(get_cfg()))


def test_stages_are_four():
    with pytest.raises(ValueError, match="STAGE_WITH_DCN"):
        build_backbone(get_cfg(overrides=["MODEL.RESNETS.STAGE_WITH_DCN", (True, True)]))
