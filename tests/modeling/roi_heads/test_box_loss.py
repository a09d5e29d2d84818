"""The box head's losses against plain loops."""

import math

import pytest
import torch

from maskrcnn_lib.modeling.box_coder import BoxCoder
from maskrcnn_lib.modeling.roi_heads.box_head.loss import box_losses
from maskrcnn_lib.modeling.roi_heads.regions import Rows
from maskrcnn_lib.modeling.targets import Targets

CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))
CLASSES = 4


def make_case():
    boxes = torch.tensor([[[10.0, 10, 50, 50], [60, 60, 90, 95]], [[5, 5, 30, 20], [0, 0, 0, 0]]])
    valid = torch.tensor([[True, True], [True, False]])
    targets = Targets(boxes, torch.tensor([[1, 3], [2, 0]]), valid, torch.zeros(2).long())
    rois = torch.tensor(
        [
            [0, 12.0, 12, 48, 52],
            [0, 61, 58, 90, 90],
            [0, 0, 0, 20, 20],
            [1, 4, 6, 31, 22],
            [1, 50, 50, 60, 60],
            [1, 0, 0, 0, 0],
        ]
    )
    rows = Rows(
        rois,
        torch.tensor([1, 3, 0, 2, 0, 0]),
        torch.tensor([0, 1, 0, 0, 0, 0]),
        torch.tensor([True] * 5 + [False]),
        torch.arange(6),
    )
    return targets, rows


@pytest.mark.parametrize("beta", [1.0, 1 / 9, 0.0])
@pytest.mark.parametrize("regressors", [CLASSES, 2])
def test_losses_are_those_of_a_plain_loop(beta, regressors):
    targets, rows = make_case()
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, CLASSES, generator=generator)
    offsets = torch.randn(6, 4 * regressors, generator=generator)
    losses = box_losses(logits, offsets, rows, targets, box_coder=CODER, beta=beta)
    entropy = distance = 0.0
    for row in range(5):
        label = int(rows.labels[row])
        entropy -= float(logits[row].log_softmax(0)[label])
        if label:
            column = 4 * (label if regressors == CLASSES else 1)
            box = targets.boxes[int(rows.rois[row, 0]), rows.matched[row]]
            goal = CODER.encode(box, rows.rois[row, 1:])
            for d in (offsets[row, column : column + 4] - goal).abs().tolist():
                distance += 0.5 * d * d / beta if d < beta else d - 0.5 * beta
    for name, expected in (("loss_classifier", entropy), ("loss_box_reg", distance)):
        assert losses[name].count == 5
        assert losses[name].total.item() == pytest.approx(expected, rel=1e-5)


def test_rows_that_do_not_count_and_other_classes_get_no_gradient():
    targets, rows = make_case()
    logits = torch.zeros(6, CLASSES, requires_grad=True)
    offsets = torch.zeros(6, 4 * CLASSES, requires_grad=True)
    losses = box_losses(logits, offsets, rows, targets, box_coder=CODER, beta=1.0)
    sum(loss.total for loss in losses.values()).backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[5].abs().sum() == 0
    assert logits.grad[:5].abs().sum(dim=1).min() > 0
    moved = offsets.grad.view(6, CLASSES, 4).abs().sum(dim=2) > 0
    assert moved.nonzero().tolist() == [[0, 1], [1, 3], [3, 2]]


def test_without_any_object_the_box_loss_is_zero_with_a_gradient():
    _, rows = make_case()
    empty = torch.zeros(2, 0)
    targets = Targets(torch.zeros(2, 0, 4), empty.long(), empty.bool(), torch.zeros(2).long())
    rows = rows._replace(labels=torch.zeros(6, dtype=torch.int64))
    logits = torch.zeros(6, CLASSES, requires_grad=True)
    offsets = torch.zeros(6, 4 * CLASSES, requires_grad=True)
    losses = box_losses(logits, offsets, rows, targets, box_coder=CODER, beta=1.0)
    assert losses["loss_box_reg"].total == 0
    assert losses["loss_classifier"].total.item() == pytest.approx(5 * math.log(CLASSES))
    sum(loss.total for loss in losses.values()).backward()
    assert offsets.grad.abs().sum() == 0
