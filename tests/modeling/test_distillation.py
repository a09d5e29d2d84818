"""Distillation: each loss against torch's or numbers by hand, and a student that learns."""

import math

import pytest
import torch
from torch.nn import functional as F

from maskrcnn_lib.modeling.distillation import (
    DistillingDetector,
    PixelScale,
    class_loss,
    feature_loss,
    merge_classes,
    objectness_loss,
    offset_loss,
    soft_mask_loss,
)

RGB = PixelScale((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), bgr255=False)
BGR = PixelScale((103.53, 116.28, 123.675), (1.0, 1.0, 1.0), bgr255=True)


def test_feature_loss_is_zero_at_the_teacher_s_normalised_map():
    torch.manual_seed(0)
    teacher = torch.randn(2, 3, 5, 4) * torch.tensor([1.0, 20, 0.1])[:, None, None] + 7
    goal = F.batch_norm(teacher, None, None, training=True)  # normalises by the biased variance
    loss = feature_loss(goal, teacher)
    assert loss.total / loss.count < 0.02
    zero = feature_loss(torch.zeros_like(teacher), teacher)
    # of variance 1, whatever the scale of the channel; (n - 1) / n for the unbiased variance
    assert float(zero.total / zero.count) == pytest.approx(39 / 40, rel=1e-4)


def test_objectness_loss_by_hand():
    student, teacher = torch.tensor([[0.0, 2.0]]), torch.tensor([[3.0, 2.0]])
    p = 1 / (1 + math.exp(-3))
    expected = (p - 0.5) ** 2 * math.log(2)  # the second anchor is right already
    loss = objectness_loss(student, teacher)
    assert float(loss.total) == pytest.approx(expected, rel=1e-5)
    assert float(loss.count) == pytest.approx(p + 1 / (1 + math.exp(-2)), rel=1e-5)


def test_objectness_of_an_empty_image_counts_one():
    assert objectness_loss(torch.zeros(2, 5), torch.full((2, 5), -50.0)).count == 2


def test_class_loss_is_torch_s_cross_entropy_with_probabilities():
    torch.manual_seed(0)
    student, teacher = torch.randn(6, 5), torch.randn(6, 5)
    valid = torch.tensor([True, True, False, True, True, False])
    loss = class_loss(student, teacher, valid)
    expected = F.cross_entropy(student[valid], teacher[valid].softmax(dim=1))
    torch.testing.assert_close(loss.total / loss.count, expected)


def test_class_loss_has_no_gradient_at_the_teacher():
    logits = torch.randn(4, 7).requires_grad_()
    class_loss(logits, logits.detach(), torch.ones(4, dtype=torch.bool)).total.backward()
    assert logits.grad.abs().max() < 1e-6


def test_merged_classes_keep_their_probabilities_and_background_has_the_rest():
    torch.manual_seed(0)
    logits = torch.randn(6, 5, dtype=torch.float64)
    before, after = logits.softmax(dim=1), merge_classes(logits, [0, 3, 1]).softmax(dim=1)
    torch.testing.assert_close(after[:, 1:], before[:, [3, 1]])
    torch.testing.assert_close(after[:, 0], before[:, [0, 2, 4]].sum(dim=1))
    assert torch.equal(merge_classes(logits, range(5))[:, 1:], logits[:, 1:])


def test_student_of_fewer_classes_learns_from_those_of_the_teacher(make_tiny_model, make_target):
    options = {
        "name": "e2e_mask_rcnn_R_50_C4_1x",
        "MODEL__RESNETS__BACKBONE_OUT_CHANNELS": 64,
        "MODEL__NORM": "group",
        "MODEL__GROUP_NORM__NUM_GROUPS": 4,
    }
    student = make_tiny_model(**options, MODEL__ROI_BOX_HEAD__NUM_CLASSES=2)
    teacher = make_tiny_model(**options)
    model = DistillingDetector(student, teacher, scales=(BGR, BGR), teacher_labels=(0, 3)).train()
    losses = model(torch.randn(1, 3, 96, 96), [make_target([[8, 8, 56, 48]], [1])], seeds=[1])
    assert all(value.isfinite() for value in losses.values())
    with pytest.raises(ValueError, match=r"has 2 classes, but teacher_labels .* are 4"):
        DistillingDetector(student, teacher, scales=(BGR, BGR))


def test_a_student_that_looks_for_its_hardest_regions_is_refused(make_tiny_model):
    hardest = make_tiny_model(MODEL__ROI_HEADS__HARDEST_REGIONS=True)
    with pytest.raises(ValueError, match=r"MODEL\.ROI_HEADS\.HARDEST_REGIONS"):
        DistillingDetector(hardest, make_tiny_model(), scales=(BGR, BGR))


def test_offset_loss_is_a_weighted_mean():
    student, teacher = torch.zeros(3, 4), torch.tensor([[1.0] * 4, [2.0] * 4, [100.0] * 4])
    loss = offset_loss(student, teacher, torch.tensor([1.0, 0.5, 0.0]))
    assert float(loss.total / loss.count) == pytest.approx((4 + 0.5 * 8) / 1.5)


def test_soft_mask_loss_is_torch_s_binary_cross_entropy():
    torch.manual_seed(0)
    student, teacher = torch.randn(3, 7, 7), torch.randn(3, 7, 7)
    valid = torch.tensor([True, False, True])
    loss = soft_mask_loss(student, teacher, valid)
    expected = F.binary_cross_entropy(student[valid].sigmoid(), teacher[valid].sigmoid())
    torch.testing.assert_close(loss.total / loss.count, expected)


def test_pixel_scales_undo_each_other():
    image = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(BGR.to_rgb(BGR.from_rgb(image)), image)
    bgr = BGR.from_rgb(RGB.to_rgb(RGB.from_rgb(image)))
    red = image[0, 0, 0, 0] * 255 - 123.675
    torch.testing.assert_close(bgr[0, 2, 0, 0], red)


@pytest.fixture
def pair(make_tiny_model):
    """A student, and a teacher of the same kind that has other weights."""
    options = {
        "name": "e2e_mask_rcnn_R_50_C4_1x",
        "MODEL__RESNETS__BACKBONE_OUT_CHANNELS": 64,
        "MODEL__NORM": "group",
        "MODEL__GROUP_NORM__NUM_GROUPS": 4,
        "MODEL__ROI_HEADS__BATCH_SIZE_PER_IMAGE": 16,
    }
    student, teacher = make_tiny_model(**options), make_tiny_model(**options)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return student, teacher


def test_every_loss_has_a_counterpart_and_falls(pair, toy_batch):
    torch.manual_seed(1)
    model = DistillingDetector(*pair, scales=(BGR, BGR)).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    history = []
    for _ in range(10):
        losses = model(*toy_batch, seeds=[1, 2])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: value.item() for name, value in losses.items()})
    parts = ("features", "objectness", "anchors", "classes", "boxes", "masks")
    taught = {f"loss_teacher_{part}" for part in parts}
    assert taught < set(history[0])
    assert {"loss_classifier", "loss_box_reg", "loss_mask"} < set(history[0])
    assert all(math.isfinite(value) for losses in history for value in losses.values())
    assert history[-1]["loss_teacher_features"] < history[0]["loss_teacher_features"]
    first, last = (sum(losses[name] for name in taught) for losses in (history[0], history[-1]))
    assert last < 0.9 * first


def test_teacher_is_neither_trained_nor_saved(pair, toy_batch):
    student, teacher = pair
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    model = DistillingDetector(student, teacher, scales=(BGR, BGR)).train()
    assert not teacher.training
    sum(model(*toy_batch, seeds=[1, 2]).values()).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert {name.split(".")[0] for name in model.state_dict()} == {"student", "adaptor"}


def test_outside_training_it_is_the_student(pair, toy_batch):
    student, teacher = pair
    model = DistillingDetector(student, teacher, scales=(BGR, BGR)).eval()
    with torch.no_grad():
        found, expected = model(toy_batch[0]), student(toy_batch[0])
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.bbox, other.bbox)
