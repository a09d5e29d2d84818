"""YOLOF's assignment against plain loops over float64 numbers, and by hand."""

import math

import numpy as np
import pytest
import torch

from maskrcnn_lib.modeling.box_coder import BoxCoder
from maskrcnn_lib.modeling.dense.loss import Predictions
from maskrcnn_lib.modeling.dense.uniform import LearnUniformly, UniformMatcher
from maskrcnn_lib.modeling.losses import mean_losses
from maskrcnn_lib.modeling.rpn.anchor_generator import AnchorGenerator
from maskrcnn_lib.modeling.targets import Targets

BACKGROUND, IGNORED = 0, -1


def make_targets(boxes, labels):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(len(boxes), -1, 4)
    labels = torch.tensor(labels, dtype=torch.int64).reshape(len(boxes), -1)
    return Targets(boxes, labels, labels > 0, torch.zeros(len(boxes), dtype=torch.int64))


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union


def distance(a, b):
    def form(box):
        centre = (box[:2] + box[2:]) / 2
        return np.concatenate((centre, box[2:] - box[:2]))

    return np.abs(form(a) - form(b)).sum()


def assigned_by_loops(anchors, predicted, objects, labels, size, matches=4):
    """Labels of one image's anchors and its set of (anchor, object) pairs to learn from.

    The paper's and mmdetection's rule: pairs write the class of their anchor, or "ignored" where
    they overlap too little, the nearest pairs first; what no pair wrote is background, unless the
    prediction is good.
    """
    height, width = size
    usable = [
        i
        for i, box in enumerate(anchors)
        if (box[0] + box[2]) / 2 < width and (box[1] + box[3]) / 2 < height
    ]
    result = np.full(len(anchors), IGNORED)
    for i in usable:
        best = max((iou(predicted[i], box) for box in objects), default=0)
        result[i] = IGNORED if best > 0.7 else BACKGROUND
    ranking = [
        [sorted(usable, key=lambda i: distance(boxes[i], box)) for box in objects]
        for boxes in (predicted, anchors)
    ]
    learned = []
    for rank in range(min(matches, len(usable))):
        for by in (0, 1):
            for g, box in enumerate(objects):
                i = ranking[by][g][rank]
                good = iou(anchors[i], box) >= 0.15
                result[i] = labels[g] if good else IGNORED
                if good:
                    learned.append((i, g))
    return result, sorted(learned)


def anchors_on(rows, columns):
    generator = AnchorGenerator([(32, 64, 128)], (1.0,), strides=(32,))
    return generator([(rows, columns)], (0, 0), torch.device("cpu"))[0]


@pytest.mark.parametrize("seed", range(6))
def test_random_objects_and_predictions_are_assigned_as_by_loops(seed):
    rng = np.random.default_rng(seed)
    anchors = anchors_on(5, 6)
    # On the grid many are equally near to an object, and any of them may be taken.
    anchors = anchors + torch.from_numpy(rng.uniform(-4, 4, (len(anchors), 4))).float()
    sizes = [(160, 192), (100, 130), (160, 65)]
    counts, slots = (5, 2, 0), 5
    boxes, labels = np.zeros((3, slots, 4)), np.zeros((3, slots), dtype=int)
    for image, count in enumerate(counts):
        corner, side = rng.uniform(0, 100, (count, 2)), rng.uniform(8, 120, (count, 2))
        boxes[image, :count] = np.concatenate((corner, corner + side), axis=1)
        labels[image, :count] = rng.integers(1, 9, count)
    boxes = boxes.astype(np.float32)
    noise = torch.from_numpy(rng.normal(0, 0.3, (3, len(anchors), 4))).float()
    predicted = BoxCoder((1.0,) * 4, largest_shift=32).decode(noise, anchors.expand(3, -1, -1))
    predicted[0, 7] = torch.from_numpy(boxes[0, 0]) + 0.5
    targets = make_targets(boxes.tolist(), labels.tolist())
    result = UniformMatcher()(anchors, predicted, targets, torch.tensor(sizes))
    for image, count in enumerate(counts):
        expected, pairs = assigned_by_loops(
            anchors.double().numpy(),
            predicted[image].double().numpy(),
            boxes[image, :count].astype(np.float64),
            labels[image],
            sizes[image],
        )
        np.testing.assert_array_equal(result.labels[image].numpy(), expected)
        wanted = result.wanted[image]
        found = zip(
            result.anchors[image][wanted].tolist(), result.objects[wanted].tolist(), strict=True
        )
        assert sorted(found) == pairs
    assert (result.labels[0] > 0).any() and (result.labels[1] == IGNORED).any()


# Four squares of 10 in a row, 10 apart, and one object that is nearest to the second.
ROW = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10], [20, 0, 30, 10], [30, 0, 40, 10]])
SIZE = torch.tensor([[10, 40]])


def test_an_object_gets_as_many_anchors_by_box_as_by_prediction():
    targets = make_targets([[[11.0, 0, 21, 10]]], [[3]])
    predicted = ROW.clone()
    predicted[3] = torch.tensor([12.0, 0, 22, 10])  # far away, but it predicts near to the object
    predicted[0] = torch.tensor([60.0, 0, 70, 10])
    result = UniformMatcher(matches=2)(ROW, predicted[None], targets, SIZE)
    # By box: 1 (distance 1), 2 (9). By prediction: 1 (1) and 3 (1); of IoU 0 with the object.
    assert sorted(result.anchors[0].tolist()) == [1, 1, 2, 3]
    assert sorted(result.anchors[0][result.wanted[0]].tolist()) == [1, 1]
    # IoU of 2 and the object is 10 / 190: too little to learn from. Of 1 it is 90 / 110.
    assert result.labels.tolist() == [[BACKGROUND, 3, IGNORED, IGNORED]]


def test_a_good_prediction_without_an_object_is_not_called_background():
    targets = make_targets([[[11.0, 0, 21, 10]]], [[3]])
    predicted = ROW.clone()
    predicted[3] = torch.tensor([12.5, 0, 22.5, 10])  # IoU 85 / 115 = 0.739
    result = UniformMatcher(matches=1)(ROW, predicted[None], targets, SIZE)
    assert result.labels.tolist() == [[BACKGROUND, 3, BACKGROUND, IGNORED]]
    predicted[3] = torch.tensor([13.0, 0, 23, 10])  # 80 / 120 = 0.667
    result = UniformMatcher(matches=1)(ROW, predicted[None], targets, SIZE)
    assert result.labels.tolist() == [[BACKGROUND, 3, BACKGROUND, BACKGROUND]]


def test_of_two_objects_that_want_an_anchor_the_later_gives_the_class_and_both_the_box():
    targets = make_targets([[[10.0, 0, 20, 10], [10, 0, 20, 9]]], [[3, 5]])
    result = UniformMatcher(matches=1)(ROW, ROW[None], targets, SIZE)
    assert result.labels.tolist() == [[BACKGROUND, 5, BACKGROUND, BACKGROUND]]
    assert result.wanted.tolist() == [[True] * 4]
    assert result.objects.tolist() == [0, 1, 0, 1]


def test_neither_padding_nor_unused_slots_change_an_image():
    alone = make_targets([[[11.0, 0, 21, 10]]], [[3]])
    beside = make_targets([[[11.0, 0, 21, 10], [0, 0, 0, 0]], [[0.0] * 4] * 2], [[3, 0], [0, 0]])
    matcher = UniformMatcher(matches=2)
    expected = matcher(ROW[:2], ROW[None, :2], alone, torch.tensor([[10, 20]]))
    result = matcher(ROW, ROW.expand(2, -1, -1), beside, torch.tensor([[10, 20], [10, 40]]))
    assert expected.labels.tolist() == [[IGNORED, 3]]
    assert result.labels.tolist() == [[IGNORED, 3, IGNORED, IGNORED], [BACKGROUND] * 4]
    assert result.wanted.sum(dim=1).tolist() == [expected.wanted.sum().item(), 0] == [2, 0]


def test_images_without_objects_are_background():
    result = UniformMatcher()(ROW, ROW.expand(2, -1, -1), make_targets([[], []], [[], []]), SIZE)
    assert result.labels.tolist() == [[BACKGROUND] * 4] * 2
    assert result.anchors.shape == result.wanted.shape == (2, 0)


def test_losses_are_divided_by_the_anchors_with_objects_of_which_an_image_has_at_least_one():
    """Two images of ROW, one object in the first; logits of 0, boxes 2 pixels too far right."""
    targets = make_targets([[[10.0, 0, 20, 10]], [[0, 0, 0, 0]]], [[2], [0]])
    offsets = torch.tensor([0.2, 0, 0, 0]).expand(2, 4, 4).clone().requires_grad_()
    coder = BoxCoder((1.0,) * 4, largest_shift=32)
    learner = LearnUniformly(UniformMatcher(matches=1), coder, gamma=2.0, alpha=0.25)
    predictions = Predictions([ROW], [torch.zeros(2, 4, 2)], [offsets])
    losses = mean_losses(learner(predictions, targets, SIZE.expand(2, -1)))
    # Anchor 1 is nearest by its box and by its prediction: two pairs, but one positive; the image
    # without objects counts another. IoU 80 / 120, and nothing in the hull but the union.
    right, wrong = 0.25 * 0.25 * math.log(2), 0.75 * 0.25 * math.log(2)
    assert losses["loss_yolof_cls"].item() == pytest.approx((right + 15 * wrong) / 2)
    assert losses["loss_yolof_reg"].item() == pytest.approx(2 * (1 - 2 / 3) / 2)
    losses["loss_yolof_reg"].backward()
    assert (offsets.grad != 0).any(dim=2).tolist() == [[False, True, False, False], [False] * 4]


def test_gradients_are_finite_whatever_the_other_anchors_say():
    offsets = torch.zeros(2, 4, 4)
    offsets[0, 3], offsets[0, 0] = 1e4, -1e4
    offsets.requires_grad_()
    logits = torch.zeros(2, 4, 2, requires_grad=True)
    targets = make_targets([[[10.0, 0, 20, 10]], [[0, 0, 0, 0]]], [[2], [0]])
    learner = LearnUniformly(UniformMatcher(), BoxCoder((1.0,) * 4, largest_shift=32))
    sums = learner(Predictions([ROW], [logits], [offsets]), targets, SIZE.expand(2, -1))
    sum(mean_losses(sums).values()).backward()
    assert offsets.grad.isfinite().all() and logits.grad.isfinite().all()
