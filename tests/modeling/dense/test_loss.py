"""What anchors are assigned, and what the sums are divided by, by hand."""

import math

import pytest
import torch

from maskrcnn_lib.modeling.box_coder import BoxCoder
from maskrcnn_lib.modeling.dense.loss import (
    Assignment,
    DenseLearning,
    assign_anchors,
    dense_losses,
)
from maskrcnn_lib.modeling.losses import mean_losses
from maskrcnn_lib.modeling.matcher import Matcher
from maskrcnn_lib.modeling.targets import Targets

ANCHORS = torch.tensor(
    [[0.0, 0, 10, 10], [0, 0, 20, 10], [0, 0, 45, 10], [50, 50, 60, 60], [0, 0, 10, 12]]
)
CODER = BoxCoder((1.0, 1.0, 1.0, 1.0))


def make_targets(boxes, labels):
    boxes = torch.tensor(boxes).reshape(len(boxes), -1, 4)
    labels = torch.tensor(labels).reshape(len(boxes), -1)
    return Targets(boxes, labels, labels > 0, torch.zeros(len(boxes), dtype=torch.int64))


def test_anchors_are_of_the_class_background_or_nothing():
    # Image 0: IoU 1, 1/2, 10/45, 0, 10/12 with the object; image 1 has an unused slot.
    targets = make_targets([[[0.0, 0, 10, 10]], [[0.0, 0, 0, 0]]], [[3], [0]])
    assignment = assign_anchors(ANCHORS, targets, Matcher(0.6, 0.4))
    assert assignment.labels.tolist() == [[3, -1, 0, 0, 3], [0, 0, 0, 0, 0]]
    assert assignment.matched.shape == (2, 5)


def test_an_object_far_from_all_anchors_takes_the_nearest():
    targets = make_targets([[[0.0, 0, 100, 10]]], [[2]])  # at most IoU 0.45
    labels = assign_anchors(
        ANCHORS, targets, Matcher(0.6, 0.4, allow_low_quality_matches=True)
    ).labels
    assert labels.tolist() == [[0, 0, 2, 0, 0]]


def test_without_objects_all_anchors_are_background():
    targets = make_targets([[], []], [[], []])
    assert assign_anchors(ANCHORS, targets, Matcher(0.5, 0.4)).labels.tolist() == [[0] * 5] * 2


def losses_by(normaliser, *, box_divisor=4.0, positives=(2, 1)):
    """Losses for logits of 0, one class, and offsets of 1 where 0 is right, in units of a sample.

    A positive's logit costs 0.25 * 0.25 ln 2, a negative's 0.75 * 0.25 ln 2, its box 4 (1 - 0.055).
    """
    count = len(ANCHORS)
    labels = torch.zeros(len(positives), count, dtype=torch.int64)
    for image, number in enumerate(positives):
        labels[image, :number] = 1
    labels[:, -1] = -1
    objects = ANCHORS.expand(len(positives), -1, -1)  # each anchor lies on its object
    matched = torch.arange(count).expand(len(positives), -1)
    sums = dense_losses(
        ANCHORS,
        [torch.zeros(len(positives), 3, 1), torch.zeros(len(positives), 2, 1)],
        torch.ones(len(positives), count, 4),
        Assignment(labels, matched),
        objects,
        box_coder=CODER,
        learning=DenseLearning(normaliser=normaliser, box_divisor=box_divisor),
    )
    losses = mean_losses(sums)
    cls = losses["loss_retina_cls"].item() / (0.0625 * math.log(2))
    return cls, losses["loss_retina_reg"].item() / (4 * (1 - 0.055))


def test_maskrcnn_benchmark_divides_by_positives_and_images():
    # Images of 2 positives and 2 negatives, 1 and 3; negatives cost 3.
    assert losses_by("batch_and_images") == pytest.approx(((3 + 5 * 3) / (3 + 2), 3 / (4 * 3)))


def test_detectron2_divides_by_the_positives_of_the_batch():
    assert losses_by("batch", box_divisor=1) == pytest.approx(((3 + 5 * 3) / 3, 1.0))


def test_torchvision_divides_each_image_by_its_own_positives():
    class_loss = ((2 + 2 * 3) / 2 + (1 + 3 * 3) / 1) / 2
    assert losses_by("image", box_divisor=1) == pytest.approx((class_loss, 1.0))


@pytest.mark.parametrize(
    ("normaliser", "expected"), [("batch_and_images", 12.0), ("batch", 24.0), ("image", 12.0)]
)
def test_without_positives_the_divisor_is_at_least_one(normaliser, expected):
    assert losses_by(normaliser, positives=(0, 0)) == pytest.approx((expected, 0.0))


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
def test_gradients_are_finite_and_only_wanted_boxes_have_one(box_loss):
    anchors = ANCHORS[:4]
    logits = torch.zeros(1, 4, 2, requires_grad=True)
    offsets = torch.full((1, 4, 4), 0.1)
    offsets[0, 2] = 1e4  # an anchor that nobody looks at may say anything
    offsets.requires_grad_()
    labels = torch.tensor([[2, 0, -1, 1]])
    boxes = torch.tensor([[[1.0, 1, 9, 12], [48, 50, 62, 60]]])
    sums = dense_losses(
        anchors,
        [logits],
        offsets,
        Assignment(labels, torch.tensor([[0, 0, 0, 1]])),
        boxes,
        box_coder=CODER,
        learning=DenseLearning(box_loss=box_loss),
    )
    sum(mean_losses(sums).values()).backward()
    assert offsets.grad.isfinite().all() and logits.grad.isfinite().all()
    assert (offsets.grad[0] != 0).any(dim=1).tolist() == [True, False, False, True]
    assert (logits.grad[0] != 0).any(dim=1).tolist() == [True, True, False, True]
