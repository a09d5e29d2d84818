"""RetinaNet's parts: anchors against published ones, the head's start, training on a toy."""

import math

import pytest
import torch
from torch import nn

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling import outputs
from maskrcnn_lib.modeling.dense.retinanet import RetinaNetHead, build_retinanet, octave_sizes
from maskrcnn_lib.structures.image_list import to_image_list

NAME = "retinanet/retinanet_R-50-FPN_1x"
LOSSES = {"loss_retina_cls", "loss_retina_reg"}

# maskrcnn-benchmark's anchors of P3 and P7, whose x2 and y2 are the last pixel.
PUBLISHED_P3 = [
    [-18, -8, 25, 15],
    [-23.718, -11.119, 30.718, 18.119],
    [-30.923, -15.049, 37.923, 22.049],
    [-12, -12, 19, 19],
    [-16.159, -16.159, 23.159, 23.159],
    [-21.398, -21.398, 28.398, 28.398],
    [-8, -20, 15, 27],
    [-11.119, -26.238, 18.119, 33.238],
    [-15.049, -34.098, 22.049, 41.098],
]
PUBLISHED_P7_RATIO_1 = [
    [-192, -192, 319, 319],
    [-258.540, -258.540, 385.540, 385.540],
    [-342.375, -342.375, 469.375, 469.375],
]


def test_anchors_are_those_of_maskrcnn_benchmark():
    tables = build_retinanet(get_cfg(NAME), 256).anchor_generator.cell_anchors
    last_pixel = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert len(tables) == 5
    torch.testing.assert_close(
        tables[0] - last_pixel, torch.tensor(PUBLISHED_P3), atol=6e-4, rtol=0
    )
    torch.testing.assert_close(
        tables[4][3:6] - last_pixel, torch.tensor(PUBLISHED_P7_RATIO_1), atol=6e-4, rtol=0
    )


def test_sizes_divide_the_octave_evenly():
    (first, second) = octave_sizes((32, 64), 2.0, 3)
    assert first == pytest.approx((32, 32 * 2 ** (1 / 3), 32 * 2 ** (2 / 3)))
    assert second == pytest.approx([2 * size for size in first])
    assert octave_sizes((32, 512), 2.0, 3, whole_pixels=True) == [(32, 40, 50), (512, 645, 812)]


def test_head_begins_with_the_prior_and_small_offsets():
    torch.manual_seed(0)
    head = RetinaNetHead(16, 9, 4, prior=0.01)
    logits, offsets = head([torch.randn(2, 16, 6, 5), torch.randn(2, 16, 3, 2)])
    assert [level.shape for level in logits] == [(2, 36, 6, 5), (2, 36, 3, 2)]
    assert [level.shape for level in offsets] == [(2, 36, 6, 5), (2, 36, 3, 2)]
    assert logits[0].sigmoid().mean().item() == pytest.approx(0.01, rel=0.02)
    assert offsets[0].abs().max() < 0.05
    assert head.cls_logits.bias[0].item() == pytest.approx(-math.log(99))


def test_p6_comes_from_c5_or_p5(make_tiny_model):
    for use_c5 in (True, False):
        backbone = make_tiny_model(NAME, MODEL__RETINANET__USE_C5=use_c5).backbone.eval()
        images = torch.randn(1, 3, 128, 96, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            maps = backbone(images)
            source = backbone.body(images)[-1] if use_c5 else maps[2]
            p6 = backbone.fpn.top_blocks.p6(source)
            p7 = backbone.fpn.top_blocks.p7(p6.clamp(min=0))
        assert [tuple(level.shape[2:]) for level in maps] == [
            (16, 12),
            (8, 6),
            (4, 3),
            (2, 2),
            (1, 1),
        ]
        torch.testing.assert_close(maps[3], p6)
        torch.testing.assert_close(maps[4], p7)


@pytest.mark.parametrize("objects", ["both", "one", "none"])
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        (NAME, {}),
        ("torchvision/retinanet_resnet50_fpn", {}),
        ("torchvision/retinanet_resnet50_fpn_v2", {"MODEL__GROUP_NORM__NUM_GROUPS": 4}),
    ],
)
def test_every_parameter_gets_a_finite_gradient(
    make_tiny_model, toy_batch, make_target, name, overrides, objects
):
    model = make_tiny_model(name, MODEL__RETINANET__NUM_CLASSES=4, **overrides)
    images, targets = toy_batch
    empty = make_target([], [])
    targets = {"both": targets, "one": [empty, targets[1]], "none": [empty, empty]}[objects]
    losses = model(images, targets)
    assert set(losses) == LOSSES
    sum(losses.values()).backward()
    for parameter_name, value in model.named_parameters():
        assert value.grad is not None and value.grad.isfinite().all(), parameter_name
    assert (losses["loss_retina_reg"] == 0) == (objects == "none")


def test_both_losses_fall_on_two_images(make_tiny_model, toy_batch):
    model = make_tiny_model(
        NAME,
        MODEL__RETINANET__NUM_CLASSES=4,
        MODEL__NORM="group",
        MODEL__GROUP_NORM__NUM_GROUPS=4,
        MODEL__RETINANET__USE_GN=True,
    )
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    history = []
    for _ in range(20):
        losses = model(*toy_batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        history.append({name: value.item() for name, value in losses.items()})
    for name in LOSSES:
        assert history[-1][name] < 0.6 * history[0][name]


def test_training_works_in_bfloat16(make_tiny_model, toy_batch):
    model = make_tiny_model(NAME, MODEL__RETINANET__NUM_CLASSES=4)
    with torch.no_grad():
        expected = model(*toy_batch)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(*toy_batch)
    sum(losses.values()).backward()
    for name, value in losses.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0.1, atol=0.02)
    assert all(value.grad.isfinite().all() for value in model.parameters())


def test_nothing_is_drawn_by_chance(make_tiny_model, toy_batch):
    model = make_tiny_model(NAME, MODEL__RETINANET__NUM_CLASSES=4)
    with torch.no_grad():
        first, second = (model(*toy_batch, seeds=[seed, 1]) for seed in (5, 6))
    assert first == second


def test_labels_beyond_the_models_classes_are_refused(make_tiny_model, toy_batch, make_target):
    model = make_tiny_model(NAME, MODEL__RETINANET__NUM_CLASSES=4)
    images, targets = toy_batch
    with pytest.raises(ValueError, match="target 1: label 4 of box 0"):
        model(images, [targets[0], make_target([[0, 0, 9, 9]], [4])])


def test_meta_architecture_and_switch_build_the_same(make_tiny_model, toy_batch):
    from maskrcnn_lib.modeling.detector import build_detection_model

    cfg = get_cfg(NAME)
    cfg.MODEL.RETINANET_ON, cfg.MODEL.META_ARCHITECTURE = False, "RetinaNet"
    with torch.device("meta"):
        by_name = build_detection_model(cfg).state_dict()
        by_switch = build_detection_model(get_cfg(NAME)).state_dict()
    assert list(by_name) == list(by_switch)


@torch.inference_mode()
def test_the_fixed_sizes_of_other_devices_give_the_same_detections(make_tiny_model, monkeypatch):
    model = make_tiny_model(NAME, MODEL__RETINANET__INFERENCE_TH=0.0101).eval()
    images = [torch.randn(3, 96, 80), torch.randn(3, 64, 96)]
    expected = model(images)
    monkeypatch.setattr(outputs, "host_may_wait", lambda values: False)
    assert model.detect(to_image_list(images, 32)).valid.shape == (2, 100)
    for ours, theirs in zip(model(images), expected, strict=True):
        assert len(ours) == len(theirs)
        torch.testing.assert_close(ours.bbox, theirs.bbox, atol=1e-3, rtol=0)
