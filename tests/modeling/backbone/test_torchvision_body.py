"""torchvision's classifiers as bodies: the maps of torchvision's own extractor, and training."""

import pytest
import torch
from torch import nn

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.config.pixels import pixel_statistics
from maskrcnn_lib.modeling.backbone import build_backbone
from maskrcnn_lib.modeling.backbone.torchvision_body import TorchvisionBody, make_torchvision_body

from .library_bodies import assert_maps_agree, randomised

STRIDES = (4, 8, 16, 32)
MOBILENET = ["features.3", "features.6", "features.12", "features.16"]


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "norm", "layers"),
    [
        ("resnet18", "frozen", ["layer1", "layer2", "layer3", "layer4"]),
        ("mobilenet_v3_large", "frozen", MOBILENET),
        ("mobilenet_v3_large", "batch", MOBILENET),
        slow("efficientnet_b0", "frozen", ["features.2", "features.3", "features.5", "features.8"]),
        slow("convnext_tiny", "frozen", ["features.1", "features.3", "features.5", "features.7"]),
        slow("swin_t", "frozen", ["features.1", "features.3", "features.5", "permute"]),
        slow("regnet_y_400mf", "frozen", [f"trunk_output.block{stage}" for stage in (1, 2, 3, 4)]),
    ],
)
def test_maps_are_those_of_torchvisions_own_extractor(tmp_path, name, norm, layers):
    from torchvision.models import get_model
    from torchvision.models.feature_extraction import create_feature_extractor

    torch.manual_seed(0)
    classifier = randomised(get_model(name, weights=None))
    torch.save(classifier.state_dict(), tmp_path / "weights.pth")
    peer = create_feature_extractor(classifier, layers)
    body = make_torchvision_body(name, STRIDES, norm=norm).eval()
    report = load_weights(body, tmp_path / "weights.pth")
    assert (report.format, report.missing, report.unexpected) == ("classifier", [], [])
    images = torch.randn(2, 3, 96, 160)
    with torch.inference_mode():
        maps, expected = body(images), peer(images).values()
    assert_maps_agree(maps, expected, STRIDES, body.out_channels)


def test_maps_of_a_transformer_have_channels_first():
    from torchvision.models.swin_transformer import SwinTransformer

    torch.manual_seed(0)
    model = SwinTransformer([4, 4], 32, [1, 1, 1, 1], [1, 2, 2, 2], [7, 7]).eval()
    images = torch.randn(1, 3, 96, 160)
    with torch.inference_mode():
        x = model.permute(model.norm(model.features(images)))
        body = TorchvisionBody(model, STRIDES).eval()
        maps = body(images)
    assert [map_.shape[1:] for map_ in maps] == [
        (32 * 2**i, 24 // 2**i, 40 // 2**i) for i in range(4)
    ]
    torch.testing.assert_close(maps[-1], x)


def test_frozen_stages_and_norms_stay_as_they_are():
    # Three frozen: all layers with maps of stride 8 and finer.
    body = make_torchvision_body("mobilenet_v3_large", STRIDES, freeze_at=3, norm="batch").train()
    trained = {int(name.split(".")[2]) for name, p in body.named_parameters() if p.requires_grad}
    assert trained == set(range(7, 17))
    before = {name: value.clone() for name, value in body.named_buffers()}
    body(torch.randn(2, 3, 64, 64))
    changed = {
        int(name.split(".")[2])
        for name, value in body.named_buffers()
        if (value != before[name]).any()
    }
    assert changed == trained
    body = make_torchvision_body("resnet18", STRIDES).train()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in body.modules())
    assert all(parameter.requires_grad for parameter in body.parameters())


def test_a_norm_that_is_a_layer_of_its_own_is_frozen_with_the_stem():
    body = make_torchvision_body("resnet18", STRIDES, freeze_at=1, norm="batch")
    assert not isinstance(body.model.bn1, nn.BatchNorm2d)
    assert isinstance(body.model.layer1[0].bn1, nn.BatchNorm2d)


def test_what_follows_the_last_map_is_left_out():
    names = [name for name, _ in make_torchvision_body("resnet18", (16,)).named_parameters()]
    assert any("layer3.1" in name for name in names)
    assert not any("layer4" in name or "fc" in name for name in names)


def test_maps_can_be_chosen_by_layer():
    layers = ["features.16", "features.13"]
    body = make_torchvision_body("mobilenet_v3_large", STRIDES, layers=layers)
    assert body.out_channels == [160, 960]
    assert [x.shape[-1] for x in body(torch.zeros(1, 3, 64, 64))] == [2, 2]
    with pytest.raises(ValueError, match=r"no maps of \['features\.99'\]"):
        make_torchvision_body("mobilenet_v3_large", STRIDES, layers=["features.99"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision/resnet18x-FPN", "did you mean resnet18"),
        ("torchvision/resnet18-C6", "-FPN"),
        ("torchvision/vit_b_16-FPN", "no chain of layers: encoder failed"),
    ],
)
def test_bodies_that_cannot_be_built_are_explained(name, message):
    cfg = get_cfg("other_bodies/mask_rcnn_torchvision_convnext_tiny_fpn")
    cfg.MODEL.BACKBONE.CONV_BODY = name
    with pytest.raises(ValueError, match=message):
        build_backbone(cfg)


def test_pixels_are_normalised_as_the_body_has_seen_them():
    cfg = get_cfg("other_bodies/mask_rcnn_torchvision_convnext_tiny_fpn")
    assert pixel_statistics(cfg) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
