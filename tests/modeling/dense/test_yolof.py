"""YOLOF's head and model: scores by hand, the head's start, training on a toy."""

import math

import pytest
import torch
from torch import nn

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.dense.yolof import YOLOFHead, build_yolof, joint_logits
from maskrcnn_lib.structures.image_list import to_image_list

NAME = "mmdet/yolof_r50-c5_8xb8-1x_coco"
LOSSES = {"loss_yolof_cls", "loss_yolof_reg"}
TOY = {"MODEL__YOLOF__NUM_CLASSES": 4, "MODEL__YOLOF__ENCODER_WIDTH": 8}


def test_anchors_are_five_squares_around_the_corners_of_the_grid():
    generator = build_yolof(get_cfg(NAME), 8).anchor_generator
    (grid,) = generator([(2, 3)], (64, 96), torch.device("cpu"))
    half = torch.tensor([16.0, 32, 64, 128, 256])
    at_origin = torch.stack((-half, -half, half, half), dim=1)
    torch.testing.assert_close(grid[:5], at_origin)
    torch.testing.assert_close(grid[-5:], at_origin + torch.tensor([64.0, 32, 64, 32]))


def test_score_is_that_of_the_class_times_that_of_the_object():
    generator = torch.Generator().manual_seed(0)
    classes = 8 * torch.randn(2, 6, 3, 4, generator=generator)  # 2 anchors of 3 classes
    objectness = 8 * torch.randn(2, 2, 3, 4, generator=generator)
    scores = joint_logits(classes, objectness).double().sigmoid()
    for channel in range(6):
        product = classes[:, channel].double().sigmoid()
        product = product * objectness[:, channel // 3].double().sigmoid()
        torch.testing.assert_close(scores[:, channel], product, atol=1e-7, rtol=1e-5)


def test_logits_and_their_gradients_stay_finite_where_everything_is_sure():
    values = torch.tensor([-200.0, -30, 0, 30, 200])
    classes = values.repeat(5).view(1, 25, 1, 1).requires_grad_()  # 5 anchors of 5 classes
    objectness = values.view(1, 5, 1, 1).clone().requires_grad_()
    logits = joint_logits(classes, objectness)
    logits.sum().backward()
    assert logits[0, :5].flatten().tolist() == pytest.approx([-400, -230, -200.6931, -200, -200])
    assert logits[0, -1].item() == pytest.approx(200 - math.log(2))
    assert classes.grad.isfinite().all() and objectness.grad.isfinite().all()


def test_half_precision_is_joined_in_full():
    classes, objectness = torch.full((1, 4, 1, 1), -4.6), torch.full((1, 2, 1, 1), 0.3)
    joint = joint_logits(classes.bfloat16(), objectness.bfloat16())
    assert joint.dtype == torch.float32
    expected = joint_logits(classes.bfloat16().float(), objectness.bfloat16().float())
    torch.testing.assert_close(joint, expected)


def test_head_begins_with_half_the_prior_and_small_offsets():
    torch.manual_seed(0)
    head = YOLOFHead(16, 5, 4, norm=nn.BatchNorm2d, prior=0.01)
    logits, offsets = head([torch.randn(2, 16, 6, 5)])
    assert [level.shape for level in logits] == [(2, 20, 6, 5)]
    assert [level.shape for level in offsets] == [(2, 20, 6, 5)]
    # Classes begin at 0.01, objectness at 1/2.
    assert logits[0].sigmoid().mean().item() == pytest.approx(0.005, rel=0.05)
    assert head.cls_logits.bias[0].item() == pytest.approx(-math.log(99))
    convs = [[type(layer) for layer in tower] for tower in (head.cls_tower, head.bbox_tower)]
    assert convs == [[nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * count for count in (2, 4)]


def test_boxes_move_32_pixels_at_most_and_shrink_without_limit():
    coder = build_yolof(get_cfg(NAME), 8).box_coder
    box = torch.tensor([[0.0, 0.0, 512.0, 512.0]])
    decoded = coder.decode(torch.tensor([[1.0, -0.01, -6.0, 6.0]]), box)[0]
    # log(1000 / 16) = 4.135 bounds growth alone.
    half_width, half_height = 256 * math.exp(-6), 256 * 1000 / 16
    expected = [288 - half_width, 250.88 - half_height, 288 + half_width, 250.88 + half_height]
    torch.testing.assert_close(decoded, torch.tensor(expected), atol=2e-3, rtol=0)


@pytest.mark.parametrize("objects", ["both", "one", "none"])
def test_every_parameter_gets_a_finite_gradient(make_tiny_model, toy_batch, make_target, objects):
    model = make_tiny_model(NAME, **TOY)
    images, targets = toy_batch
    empty = make_target([], [])
    targets = {"both": targets, "one": [empty, targets[1]], "none": [empty, empty]}[objects]
    losses = model(images, targets)
    assert set(losses) == LOSSES
    sum(losses.values()).backward()
    for name, value in model.named_parameters():
        assert value.grad is not None and value.grad.isfinite().all(), name
    assert (losses["loss_yolof_reg"] == 0) == (objects == "none")


def test_both_losses_fall_on_two_images(make_tiny_model, toy_batch):
    model = make_tiny_model(NAME, MODEL__NORM="group", MODEL__GROUP_NORM__NUM_GROUPS=4, **TOY)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    history = []
    for _ in range(20):
        losses = model(*toy_batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: value.item() for name, value in losses.items()})
    for name in LOSSES:
        assert history[-1][name] < 0.6 * history[0][name]


def test_training_works_in_bfloat16(make_tiny_model, toy_batch):
    model = make_tiny_model(NAME, **TOY)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(*toy_batch)
    sum(losses.values()).backward()
    assert all(value.dtype == torch.float32 for value in losses.values())
    assert all(value.grad.isfinite().all() for value in model.parameters())


class _Says(nn.Module):
    """A head that says the same whatever it sees."""

    def __init__(self, logits, offsets):
        super().__init__()
        self.said = [logits], [offsets]

    def forward(self, features):
        return self.said


def test_boxes_are_clipped_and_thinned_out_class_by_class():
    """One cell: its anchors have sides 32, 64, 128, 256 and 512 and their centre at the corner."""
    dense = build_yolof(get_cfg(NAME, ["MODEL.YOLOF.NUM_CLASSES", 3]), 8)
    logits = torch.full((1, 10, 1, 1), -20.0)
    offsets = torch.zeros(1, 20, 1, 1)
    # Anchor of side 64, moved by 32 and 32: the whole image of 64 x 64 pixels, in both classes.
    logits[0, [2, 3], 0, 0] = torch.tensor([2.0, 1.0])
    offsets[0, 4:6, 0, 0] = 0.5
    # Anchor of side 128, moved by as much: clipped it is the same box; its class 1 has to go.
    logits[0, 4, 0, 0] = 1.5
    offsets[0, 8:10, 0, 0] = 0.25
    # Anchor of side 32, moved by 12 pixels: 28 x 28 pixels remain, and half of it is below 0.05.
    logits[0, [0, 1], 0, 0] = torch.tensor([0.5, -3.0])
    offsets[0, 0:2, 0, 0] = 12 / 32
    dense.head = _Says(logits, offsets)
    images = to_image_list(torch.zeros(1, 3, 64, 64))
    found = dense(images, [torch.zeros(1, 8, 1, 1)])
    assert found.labels.tolist() == [[1, 2, 1]]
    torch.testing.assert_close(found.scores, torch.tensor([[2.0, 1.0, 0.5]]).sigmoid())
    whole, part = [0.0, 0.0, 64.0, 64.0], [0.0, 0.0, 28.0, 28.0]
    torch.testing.assert_close(found.boxes, torch.tensor([[whole, whole, part]]))


def test_a_batch_finds_the_same_as_one_image_at_a_time_whatever_is_said_in_its_padding():
    """Images of 2 x 3 and 3 x 2 cells side by side: the padding of each is surer of itself."""
    dense = build_yolof(get_cfg(NAME, ["MODEL.YOLOF.NUM_CLASSES", 4]), 8)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5 * 3, 3, 3, generator=generator)
    offsets = 0.2 * torch.randn(2, 5 * 4, 3, 3, generator=generator)
    shapes, sizes = [(2, 3), (3, 2)], [(50, 96), (65, 64)]  # 65: the last row's centres are on it
    alone = []
    for image, ((rows, columns), (height, width)) in enumerate(zip(shapes, sizes, strict=True)):
        part = (slice(image, image + 1), slice(None), slice(rows), slice(columns))
        dense.head = _Says(logits[part].clone(), offsets[part].clone())
        images = to_image_list([torch.zeros(3, height, width)], 32)
        alone.append(dense(images, [torch.zeros(1, 8, rows, columns)]))
    logits[0, :, 2:], logits[1, :, :, 2:] = 9.0, 9.0
    dense.head = _Says(logits, offsets)
    images = to_image_list([torch.zeros(3, *size) for size in sizes], 32)
    together = dense(images, [torch.zeros(2, 8, 3, 3)])
    for image, expected in enumerate(alone):
        count = int(expected.valid.sum())
        assert count > 10 and int(together.valid[image].sum()) == count
        for name in ("boxes", "scores", "labels"):
            found = getattr(together, name)[image, :count]
            torch.testing.assert_close(found, getattr(expected, name)[0, :count], rtol=0, atol=0)
