"""timm's classifiers as bodies: timm's features, timm's files of weights, and training."""

import sys

import pytest
import torch
from torch import nn

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.checkpoint.download import resolve_weights
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.config.pixels import pixel_statistics
from maskrcnn_lib.modeling.backbone import build_backbone
from maskrcnn_lib.modeling.backbone.timm_body import TimmBody, make_timm_body

from .library_bodies import assert_maps_agree, randomised

timm = pytest.importorskip("timm")
STRIDES = (4, 8, 16, 32)


def config(body, *overrides):
    return get_cfg("other_bodies/mask_rcnn_timm_resnet50d_fpn", [*body_keys(body), *overrides])


def body_keys(body):
    return ["MODEL.BACKBONE.CONV_BODY", f"timm/{body}-FPN", "MODEL.WEIGHT", ""]


SWIN = "swin_tiny_patch4_window7_224"  # its maps are (N, H, W, C)
SMALL_SWIN = {"embed_dim": 32, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 2, 2)}
ANY_SIZE = {"strict_img_size": False}


@pytest.mark.parametrize(
    ("name", "norm", "arguments"),
    [
        ("resnet18", "frozen", {}),
        ("efficientnet_b0", "frozen", {}),
        ("efficientnet_b0", "batch", {}),
        ("convnext_atto", "frozen", {}),
        (SWIN, "frozen", SMALL_SWIN | ANY_SIZE),
        pytest.param(SWIN, "frozen", ANY_SIZE, marks=pytest.mark.slow),
    ],
)
def test_maps_are_those_of_timms_own_extractor(tmp_path, name, norm, arguments):
    torch.manual_seed(0)
    classifier = randomised(timm.create_model(name, **arguments))
    torch.save(classifier.state_dict(), tmp_path / "weights.pth")
    peer = timm.create_model(
        name,
        features_only=True,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "weights.pth")},
        **arguments,
    ).eval()
    if "embed_dim" in arguments:
        body = TimmBody(timm.create_model(name, **arguments), STRIDES, norm=norm).eval()
    else:
        body = make_timm_body(name, STRIDES, norm=norm).eval()
    report = load_weights(body, tmp_path / "weights.pth")
    assert (report.format, report.missing, report.unexpected) == ("classifier", [], [])
    assert any("fc" in name or "head" in name or "classifier" in name for name in report.ignored)
    images = torch.randn(2, 3, 96, 160)  # not the size that it was made for
    with torch.inference_mode():
        maps, expected = body(images), peer(images)[-4:]
    assert_maps_agree(maps, expected, STRIDES, body.out_channels)


def test_frozen_stages_and_norms_stay_as_they_are():
    body = make_timm_body("resnet18", STRIDES, freeze_at=2, norm="batch").train()
    trained = {name.split(".")[1] for name, p in body.named_parameters() if p.requires_grad}
    assert trained == {"layer2", "layer3", "layer4"}
    before = {name: value.clone() for name, value in body.named_buffers()}
    body(torch.randn(2, 3, 64, 64))
    changed = {
        name.split(".")[1] for name, value in body.named_buffers() if (value != before[name]).any()
    }
    assert changed == {"layer2", "layer3", "layer4"}
    body = make_timm_body("resnet18", STRIDES, freeze_at=0).train()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in body.modules())
    assert all(parameter.requires_grad for parameter in body.parameters())


def test_what_follows_the_last_map_is_left_out():
    names = [name for name, _ in make_timm_body("resnet18", (16,)).named_parameters()]
    assert any("layer3" in name for name in names)
    assert not any("layer4" in name or "fc" in name for name in names)


@pytest.mark.parametrize("kind", ["C4", "C5", "FPN-RETINANET"])
def test_name_says_what_is_built_on_the_body(kind):
    backbone = build_backbone(
        config("resnet18", "MODEL.BACKBONE.CONV_BODY", f"timm/resnet18-{kind}")
    )
    maps = backbone(torch.zeros(1, 3, 128, 128))
    widths = {"C4": [8], "C5": [4], "FPN-RETINANET": [16, 8, 4, 2, 1]}
    assert [x.shape[-1] for x in maps] == widths[kind]
    assert {x.shape[1] for x in maps} == {backbone.out_channels}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/resnet18x-FPN", "did you mean resnet18"),
        ("timm/resnet18", "-FPN"),
        ("timm/resnet18.nope-FPN", "nope"),
        ("timm/levit_128s-FPN", r"maps of stride \[16, 32, 64\], but none of \[4, 8\]"),
    ],
)
def test_bodies_that_cannot_be_built_are_explained(name, message):
    with pytest.raises(ValueError, match=message):
        build_backbone(config("resnet18", "MODEL.BACKBONE.CONV_BODY", name))


def test_group_norm_is_no_choice_for_weights_with_batch_norm():
    with pytest.raises(ValueError, match="'frozen' or 'batch' or 'sync'"):
        make_timm_body("resnet18", STRIDES, norm="group")


def test_without_timm_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    for attempt in (
        lambda: build_backbone(config("resnet18")),
        lambda: pixel_statistics(config("resnet18")),
        lambda: resolve_weights("timm://resnet18"),
    ):
        with pytest.raises(ModuleNotFoundError, match=r"pip install maskrcnn_lib\[timm\]"):
            attempt()


def test_pixels_are_normalised_as_the_body_has_seen_them():
    half = [0.5, 0.5, 0.5]
    assert pixel_statistics(config("inception_v3.tv_in1k")) == (half, half)
    mean, std = pixel_statistics(config("resnet18", "INPUT.TO_BGR255", True))
    assert mean == pytest.approx([0.406 * 255, 0.456 * 255, 0.485 * 255])
    assert std == pytest.approx([0.225 * 255, 0.224 * 255, 0.229 * 255])
    said = ["INPUT.PIXEL_MEAN", half, "INPUT.PIXEL_STD", [1.0, 2.0, 3.0]]
    assert pixel_statistics(config("resnet18", *said)) == (half, [1.0, 2.0, 3.0])


def test_empty_pixel_statistics_need_a_body_that_knows_them():
    with pytest.raises(ValueError, match="PIXEL_MEAN"):
        get_cfg(None, ["INPUT.PIXEL_MEAN", [], "INPUT.PIXEL_STD", []])
