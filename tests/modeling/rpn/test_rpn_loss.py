"""The loss of the region proposal network: which anchors it looks at and what it makes of them."""

import math

import pytest
import torch

from maskrcnn_lib.modeling.box_coder import BoxCoder
from maskrcnn_lib.modeling.matcher import Matcher
from maskrcnn_lib.modeling.outputs import Proposals
from maskrcnn_lib.modeling.rpn.anchor_generator import AnchorGenerator
from maskrcnn_lib.modeling.rpn.inference import limit_batch
from maskrcnn_lib.modeling.rpn.loss import (
    RPNLearning,
    anchors_inside,
    rpn_losses,
    sample_anchors,
)
from maskrcnn_lib.modeling.targets import Targets

CPU = torch.device("cpu")
CODER = BoxCoder((1.0, 1.0, 1.0, 1.0))
SIZES = torch.tensor([[96, 128], [64, 96]])


def make_anchors():
    generator = AnchorGenerator([(16,), (32,)], (0.5, 1, 2), strides=(8, 16), style="legacy")
    shapes = ((12, 16), (6, 8))
    return torch.cat(generator(shapes, (96, 128), CPU)), generator.names(shapes, CPU)


def make_truth(*per_image):
    count = max(map(len, per_image))
    boxes = torch.zeros(len(per_image), count, 4)
    valid = torch.zeros(len(per_image), count, dtype=torch.bool)
    for i, of_image in enumerate(per_image):
        boxes[i, : len(of_image)] = torch.tensor(of_image).reshape(-1, 4)
        valid[i, : len(of_image)] = True
    return Targets(boxes, valid.long(), valid, torch.arange(len(per_image)))


def learning(**changes):
    matcher = Matcher(0.7, 0.3, allow_low_quality_matches=True)
    return RPNLearning(matcher, **{"batch_size": 32, "positive_fraction": 0.5, **changes})


def losses_of(objectness, offsets, truth, **changes):
    anchors, ids = make_anchors()

    def predictions_at(indices):
        return objectness.gather(1, indices), offsets.gather(
            1, indices[:, :, None].expand(-1, -1, 4)
        )

    return rpn_losses(
        anchors,
        ids,
        SIZES[: len(objectness)],
        truth,
        predictions_at,
        box_coder=CODER,
        learning=learning(**changes),
    )


TRUTH = [[[10.0, 10.0, 42.0, 40.0], [60.0, 30.0, 100.0, 90.0]], [[20.0, 20.0, 36.0, 36.0]]]


@pytest.mark.parametrize("beta", [1 / 9, 0.0])
def test_losses_are_those_of_a_plain_loop(beta):
    anchors, ids = make_anchors()
    generator = torch.Generator().manual_seed(0)
    objectness = torch.randn(2, len(anchors), generator=generator)
    offsets = torch.randn(2, len(anchors), 4, generator=generator)
    truth = make_truth(*TRUTH)
    losses = losses_of(objectness, offsets, truth, beta=beta)
    sample, matches = sample_anchors(anchors, ids, SIZES, truth, learning())
    entropy = distance = count = 0.0
    for image in range(2):
        for slot in range(sample.indices.shape[1]):
            if not sample.valid[image, slot]:
                continue
            count += 1
            index = int(sample.indices[image, slot])
            p = 1 / (1 + math.exp(-objectness[image, index]))
            entropy -= math.log(p if sample.positive[image, slot] else 1 - p)
            if sample.positive[image, slot]:
                box = truth.boxes[image, matches[image, index]]
                goal = CODER.encode(box, anchors[index])
                for d in (offsets[image, index] - goal).abs().tolist():
                    distance += 0.5 * d * d / beta if d < beta else d - 0.5 * beta
    assert count == 64
    for name, expected in (("loss_objectness", entropy), ("loss_rpn_box_reg", distance)):
        assert losses[name].count == count
        assert losses[name].total.item() == pytest.approx(expected, rel=1e-5)


def test_an_image_without_objects_has_negatives_only_and_a_gradient():
    anchors, _ = make_anchors()
    objectness = torch.zeros(2, len(anchors), requires_grad=True)
    offsets = torch.zeros(2, len(anchors), 4, requires_grad=True)
    losses = losses_of(objectness, offsets, make_truth([], []))
    sum(loss.total for loss in losses.values()).backward()
    assert losses["loss_objectness"].total.item() == pytest.approx(64 * math.log(2), rel=1e-5)
    assert losses["loss_rpn_box_reg"].total == 0
    assert (objectness.grad >= 0).all()
    assert objectness.grad.sum() > 0
    assert offsets.grad.abs().sum() == 0


def test_an_object_that_overlaps_no_anchor_makes_no_positives():
    anchors, ids = make_anchors()
    truth = make_truth([[1000.0, 1000.0, 1010.0, 1010.0]])
    sample, matches = sample_anchors(anchors, ids, SIZES[:1], truth, learning())
    assert (matches == Matcher.BELOW_LOW_THRESHOLD).all()
    assert not sample.positive.any()
    assert sample.valid.all()


@pytest.mark.parametrize("straddle", [0, 7])
def test_anchors_inside_are_maskrcnn_benchmarks(straddle):
    anchors, _ = make_anchors()
    inside = anchors_inside(anchors, SIZES, straddle)
    closed = anchors - torch.tensor([0.0, 0.0, 1.0, 1.0])  # last pixel instead of end
    for row, (height, width) in zip(inside, SIZES.tolist(), strict=True):
        expected = (
            (closed[:, 0] >= -straddle)
            & (closed[:, 1] >= -straddle)
            & (closed[:, 2] < width + straddle)
            & (closed[:, 3] < height + straddle)
        )
        assert row.tolist() == expected.tolist()
    assert 0 < inside[1].sum() < inside[0].sum() < len(anchors)


def test_anchors_outside_are_not_sampled_unless_asked_for():
    anchors, ids = make_anchors()
    truth = make_truth(*TRUTH)
    inside = anchors_inside(anchors, SIZES, 0)
    everything = {"batch_size": len(anchors), "positive_fraction": 0.5}
    sample, _ = sample_anchors(anchors, ids, SIZES, truth, learning(**everything))
    assert inside.gather(1, sample.indices)[sample.valid].all()
    sample, _ = sample_anchors(anchors, ids, SIZES, truth, learning(straddle=-1, **everything))
    assert not inside.gather(1, sample.indices)[sample.valid].all()


def test_an_anchor_has_the_same_name_in_a_larger_grid():
    generator = AnchorGenerator([(16,), (32,)], (0.5, 1, 2), strides=(8, 16))
    small = generator.names(((4, 5), (2, 3)), CPU)
    large = generator.names(((6, 9), (3, 5)), CPU)
    assert len(small.unique()) == len(small) == 4 * 5 * 3 + 2 * 3 * 3
    assert small[:60].view(4, 5, 3).tolist() == large[:162].view(6, 9, 3)[:4, :5].tolist()
    assert small[60:].view(2, 3, 3).tolist() == large[162:].view(3, 5, 3)[:2, :3].tolist()


def test_padding_a_batch_further_draws_the_same_anchors():
    truth = make_truth(TRUTH[0])
    drawn = []
    for shapes, padded in ((((12, 16), (6, 8)), (96, 128)), (((20, 16), (10, 8)), (160, 128))):
        generator = AnchorGenerator([(16,), (32,)], (0.5, 1, 2), strides=(8, 16), style="exact")
        anchors = torch.cat(generator(shapes, padded, CPU))
        names = generator.names(shapes, CPU)
        sample, _ = sample_anchors(anchors, names, SIZES[:1], truth, learning())
        drawn.append(anchors[sample.indices[0]].tolist())
    assert drawn[0] == drawn[1]


def test_detectrons_limit_counts_the_whole_batch():
    scores = torch.tensor([[0.9, 0.8, 0.3, 0.1], [0.7, 0.2, 0.0, 0.0]])
    valid = torch.tensor([[True, True, True, True], [True, True, False, False]])
    boxes = torch.rand(2, 4, 4)
    limited = limit_batch(Proposals(boxes, scores, valid), 4)
    assert limited.valid.tolist() == [[True, True, True], [True, False, False]]
    torch.testing.assert_close(limited.scores[0], scores[0, :3])
    torch.testing.assert_close(limited.boxes[0], boxes[0, :3])
    assert limited.scores[1].tolist() == [pytest.approx(0.7), 0, 0]
    everything = limit_batch(Proposals(boxes, scores, valid), 100)
    assert everything.valid.tolist() == valid.tolist()
