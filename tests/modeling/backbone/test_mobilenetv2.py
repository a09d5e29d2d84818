"""MobileNetV2 against torchvision's, with the same weights; the neck; the single-level backbone."""

import pytest
import torch
from torch import nn

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.layers.batch_norm import FrozenBatchNorm2d
from maskrcnn_lib.modeling.backbone.backbone import build_backbone
from maskrcnn_lib.modeling.backbone.mobilenetv2 import MobileNetV2Body, SingleLevelNeck

CONFIG = "maskrcnn_lib/mask_rcnn_mobilenetv2"


@pytest.fixture(scope="module")
def classifier():
    """torchvision's classifier with random weights and statistics."""
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model = models.mobilenet_v2(weights=None).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model


@pytest.mark.parametrize("size", [(64, 96), (75, 101)])
def test_maps_equal_those_of_torchvision(classifier, size):
    body = MobileNetV2Body().eval()
    report = load_weights(body, classifier.state_dict())
    assert report.missing == [] and report.unexpected == []
    x, expected = torch.randn(2, 3, *size), []
    with torch.no_grad():
        maps, y = body(x), x
        for index, feature in enumerate(classifier.features):
            y = feature(y)
            if index in (6, 13, 17):
                expected.append(y)
    assert [m.shape[1] for m in maps] == list(body.out_channels)
    for found, wanted in zip(maps, expected, strict=True):
        # 1e-4: a frozen norm is folded into the weights, which rounds differently in 50 layers.
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_imagenet_weights_fill_the_body_of_a_detector(classifier):
    backbone = build_backbone(get_cfg(CONFIG))
    report = load_weights(backbone, classifier.state_dict())
    assert report.format == "torchvision_mobilenet"
    assert report.missing and all(name.startswith("fpn.") for name in report.missing)
    assert {name.split(".")[0] for name in report.ignored} == {"features", "classifier"}


def test_backbone_gives_one_map_of_stride_16():
    backbone = build_backbone(get_cfg(CONFIG)).eval()
    maps = backbone(torch.randn(1, 3, 70, 101))
    assert [m.shape for m in maps] == [(1, 128, 5, 7)]
    assert backbone.out_channels == 128


def test_first_features_are_frozen_with_their_norms():
    body = MobileNetV2Body(freeze_at=4, norm=nn.BatchNorm2d)
    for index, feature in enumerate(body.features):
        trained = [parameter.requires_grad for parameter in feature.parameters()]
        assert any(trained) == (index >= 4)
        norms = {type(m) for m in feature.modules() if isinstance(m, nn.BatchNorm2d)}
        assert bool(norms) == (index >= 4)


def test_every_level_reaches_the_neck_s_map():
    neck = SingleLevelNeck((4, 5, 6), 8, norm=FrozenBatchNorm2d)
    maps = [torch.randn(1, c, s, s, requires_grad=True) for c, s in ((4, 8), (5, 4), (6, 2))]
    (out,) = neck(maps)
    assert out.shape == (1, 8, 4, 4)
    out.square().sum().backward()
    assert all(m.grad.abs().sum() > 0 for m in maps)
