"""Folding frozen norms into weights changes neither values nor gradients."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from maskrcnn_lib.layers.batch_norm import FrozenBatchNorm2d
from maskrcnn_lib.modeling.backbone.resnet import ResNet
from maskrcnn_lib.modeling.backbone.timm_body import make_timm_body
from maskrcnn_lib.modeling.backbone.torchvision_body import make_torchvision_body
from maskrcnn_lib.modeling.fuse import (
    conv_frozen_norm,
    conv_norm,
    fuse_frozen_norms,
    scaled_at_once,
)


def random_norm(channels, dtype=torch.float32):
    norm = FrozenBatchNorm2d(channels)
    norm.weight.uniform_(0.5, 1.5)
    norm.bias.normal_()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    return norm.to(dtype)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_folded_call_equals_convolution_then_norm(bias, groups):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=groups, bias=bias).double()
    norm = random_norm(6, torch.float64)
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64)
    folded, plain = conv_frozen_norm(conv, norm, x), norm(conv(x))
    torch.testing.assert_close(folded, plain)
    inputs = list(conv.parameters())
    weights = torch.randn_like(plain)
    for mine, reference in zip(
        torch.autograd.grad((folded * weights).sum(), inputs),
        torch.autograd.grad((plain * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, reference)


def test_gradient_of_the_folded_call_is_right():
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 3, bias=False).double()
    norm = random_norm(3, torch.float64)
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    weight = conv.weight.detach().requires_grad_()

    def call(x, weight):
        return torch.func.functional_call(
            Pair(conv, norm), {"conv.weight": weight}, (x,), strict=False
        )

    assert torch.autograd.gradcheck(call, (x, weight))


class Pair(nn.Module):
    conv_norm_pairs = (("conv", "norm"),)

    def __init__(self, conv, norm):
        super().__init__()
        self.conv, self.norm = conv, norm

    def forward(self, x):
        return conv_norm(self.conv, self.norm, x)


def test_trained_norms_are_called_as_they_are():
    conv, norm = nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)
    x = torch.randn(8, 3, 5, 5)
    # a batch norm in training brings every channel to mean 0
    assert conv_norm(conv, norm, x).mean((0, 2, 3)).abs().max() < 1e-5
    assert norm.num_batches_tracked == 1


def test_fusing_removes_every_frozen_norm_and_keeps_the_maps():
    torch.manual_seed(0)
    model = ResNet((2, 1), (1, 2), res2_out_channels=32, width_per_group=8).eval()
    for name, norm in list(model.named_modules()):
        if isinstance(norm, FrozenBatchNorm2d):
            model.get_submodule(name).load_state_dict(random_norm(norm.weight.numel()).state_dict())
    x = torch.randn(1, 3, 64, 48)
    with torch.no_grad():
        before = model(x)
        assert fuse_frozen_norms(model) is model
        after = model(x)
    assert not any(isinstance(m, FrozenBatchNorm2d) for m in model.modules())
    for mine, reference in zip(after, before, strict=True):
        torch.testing.assert_close(mine, reference)


def test_fusing_a_sequential_and_a_lone_norm():
    torch.manual_seed(0)
    lone = nn.Sequential(nn.ReLU(), random_norm(3))
    model = nn.Sequential(nn.Conv2d(3, 3, 1), random_norm(3), lone).eval()
    x = torch.randn(1, 3, 4, 4)
    before = model(x)
    fuse_frozen_norms(model)
    assert isinstance(model[1], nn.Identity)
    assert isinstance(model[2][1], FrozenBatchNorm2d)
    torch.testing.assert_close(model(x), before)


@pytest.mark.parametrize("norm", ["frozen", "batch"])
@pytest.mark.parametrize(
    ("make_body", "name", "left"),
    [
        (make_timm_body, "resnet18d", 0),
        (make_timm_body, "efficientnet_b0", 0),  # its norms hold the activation
        (make_timm_body, "tf_efficientnet_b0", 0),  # its convolutions pad by themselves
        (make_timm_body, "densenet121", 1 + 58 + 3),  # those that read what several layers gave
        (make_torchvision_body, "resnet18", 0),
        (make_torchvision_body, "densenet121", 1 + 58 + 3),
    ],
)
def test_fusing_the_bodies_of_other_libraries_keeps_their_maps(make_body, name, left, norm):
    if make_body is make_timm_body:
        pytest.importorskip("timm")
    torch.manual_seed(0)
    body = make_body(name, (8, 16, 32), norm=norm).eval()
    norms = [module for module in body.modules() if hasattr(module, "running_var")]
    with torch.no_grad():
        for module in norms:
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.5, 1.0)
            module.bias.uniform_(-0.1, 0.1)
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        before = body(images)
        after = fuse_frozen_norms(body)(images)
    assert len(norms) > left
    assert sum(hasattr(module, "running_var") for module in body.modules()) == left
    for mine, reference in zip(after, before, strict=True):
        # A hundred layers, each of which rounds the sums of up to 4608 products another way.
        bound = 1e-5 * float(reference.abs().max())
        torch.testing.assert_close(mine, reference, rtol=0, atol=bound)


def test_convolutions_that_standardise_their_weights_keep_their_norm():
    standardised = pytest.importorskip("timm").layers.StdConv2d(3, 4, 3)
    model = nn.Sequential(standardised, random_norm(4)).eval()
    x = torch.randn(1, 3, 8, 8)
    with torch.inference_mode():
        before = model(x)
        assert torch.equal(fuse_frozen_norms(model)(x), before)


def test_a_convolution_that_two_layers_read_keeps_its_norm():
    class Block(nn.Module):
        foreign_layers = True

        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), random_norm(4)

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y) + y

    model, x = Block(), torch.randn(1, 3, 8, 8)
    before = model(x)
    assert torch.equal(fuse_frozen_norms(model)(x), before)


def test_fused_convolution_keeps_frozen_parameters_frozen():
    pair = Pair(nn.Conv2d(3, 4, 1, bias=False).requires_grad_(False), random_norm(4))
    fuse_frozen_norms(pair)
    assert not pair.conv.bias.requires_grad


def test_folding_under_autocast_rounds_once_and_keeps_the_gradient():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(4, 6, 3, bias=False), FrozenBatchNorm2d(6)
    norm.weight.uniform_(0.5, 2)
    norm.running_mean.uniform_(-1, 1)
    x = torch.randn(2, 4, 9, 9).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = conv_norm(conv, norm, x)
    scale, shift = norm.scale_and_shift()
    weight = (conv.weight * scale[:, None, None, None]).bfloat16().detach().requires_grad_()
    expected = torch.nn.functional.conv2d(x, weight, shift.bfloat16())
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)
    found.float().square().sum().backward()
    expected.float().square().sum().backward()
    assert conv.weight.grad.dtype == torch.float32
    assert torch.equal(conv.weight.grad, weight.grad * scale[:, None, None, None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scaling_many_weights_at_once_changes_nothing(dtype):
    torch.manual_seed(0)
    pairs = nn.Sequential(*(Pair(nn.Conv2d(4, 4, 3, bias=False), random_norm(4)) for _ in range(3)))
    pairs[0].requires_grad_(False)
    x = torch.randn(2, 4, 9, 9)
    results = []
    for at_once in (False, True):
        with (
            torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32),
            scaled_at_once(pairs, x) if at_once else nullcontext(),
        ):
            y = pairs(x)
        trained = list(pairs[1:].parameters())
        results.append((y, *torch.autograd.grad(y.float().square().sum(), trained)))
    for mine, reference in zip(*results, strict=True):
        assert mine.dtype == reference.dtype
        assert torch.equal(mine, reference)
    assert all(pair.norm.scaled_weight is None for pair in pairs)


def test_scaled_weight_of_a_frozen_convolution_is_kept_until_something_changes():
    torch.manual_seed(0)
    pair = Pair(nn.Conv2d(3, 4, 1, bias=False).requires_grad_(False), random_norm(4))
    x = torch.randn(1, 3, 5, 5)
    for change in (
        lambda: None,
        lambda: pair.conv.weight.mul_(2),
        lambda: pair.norm.weight.mul_(3),
    ):
        change()
        torch.testing.assert_close(pair(x), pair.norm(pair.conv(x)))


def test_weights_changed_between_forward_and_backward_are_noticed():
    torch.manual_seed(0)
    pair = Pair(nn.Conv2d(3, 4, 1, bias=False), random_norm(4))
    x = torch.randn(1, 3, 5, 5, requires_grad=True)
    with scaled_at_once(pair, x):
        y = pair(x)
    with torch.no_grad():
        pair.conv.weight.mul_(2)
    with pytest.raises(RuntimeError, match="changed between"):
        y.sum().backward()
