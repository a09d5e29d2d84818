"""Cascade R-CNN: what a stage gets from the one before, in training and at inference."""

import math

import pytest
import torch
from torch import nn

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.box_coder import BoxCoder
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.modeling.matcher import Matcher
from maskrcnn_lib.modeling.outputs import Proposals
from maskrcnn_lib.modeling.roi_heads.box_head.box_head import ROIBoxHead
from maskrcnn_lib.modeling.roi_heads.cascade import CascadeBoxHead, average_classes, refine_boxes
from maskrcnn_lib.modeling.roi_heads.regions import RegionSampler, all_rows
from maskrcnn_lib.modeling.targets import Targets

CODERS = [BoxCoder((f, f, f / 2, f / 2)) for f in (10.0, 20.0, 30.0)]
SIZES = torch.tensor([[100, 200]])  # height, width
CONFIG = "mmdet/cascade-mask-rcnn_r50_fpn_1x_coco"
PER_STAGE = ("loss_classifier", "loss_box_reg", "loss_mask")


class Boxes(nn.Module):
    """An extractor that hands on the boxes, and remembers them."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, features, rois):
        self.seen.append(rois[:, 1:])
        return rois[:, 1:] + 0 * features[0].sum()


class Constant(nn.Module):
    """A predictor that says the same of each region."""

    def __init__(self, logits, offsets):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))
        self.offsets = nn.Parameter(torch.tensor([9.0] * 4 + offsets))  # the first four are unused

    def forward(self, x):
        rows = x.sum() * 0 + torch.zeros(len(x), 1)
        return self.logits + rows, self.offsets + rows


def make_head(stages, *, resample=True, **settings):
    heads = [
        ROIBoxHead(Boxes(), Constant(logits, offsets), box_coder=coder)
        for (logits, offsets), coder in zip(stages, CODERS, strict=False)
    ]
    share = {"batch_size": 8, "positive_fraction": 1.0}
    samplers = [
        RegionSampler(Matcher(iou, iou), **share, proposes_objects=resample or iou == 0.5)
        for iou in (0.5, 0.6, 0.7)[: len(heads)]
    ]
    return CascadeBoxHead(heads, samplers, loss_weights=[1.0, 0.5, 0.25], **settings)


def make_proposals(boxes):
    valid = torch.ones(1, len(boxes), dtype=torch.bool)
    return Proposals(torch.tensor([boxes]), valid.float(), valid)


def test_a_refined_box_is_the_decoded_one_within_its_image():
    boxes = torch.tensor([[[20.0, 40.0, 60.0, 60.0], [150.0, 0.0, 190.0, 20.0]]])
    # Of the second stage: the centre goes by 2 / 20 of the width, the width grows by the factor 2.
    offsets = torch.tensor([2.0, 0.0, 10 * math.log(2), 0.0])
    others = torch.full((2, 4), 7.0)
    refined = refine_boxes(
        torch.cat((others, offsets.expand(2, 4)), dim=1), boxes, SIZES, CODERS[1]
    )
    expected = torch.tensor([[[4.0, 40.0, 84.0, 60.0], [134.0, 0.0, 200.0, 20.0]]])
    torch.testing.assert_close(refined, expected)


def test_classes_are_averaged_as_logits_or_as_probabilities():
    first, second = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[0.0, math.log(27)]])
    logits = average_classes([first, second], of_logits=True)
    torch.testing.assert_close(logits.softmax(dim=1), torch.tensor([[0.1, 0.9]]))  # sqrt(3 * 27)
    probabilities = average_classes([first, second], of_logits=False)
    expected = torch.tensor([[1 / 4 + 1 / 28, 3 / 4 + 27 / 28]]) / 2
    torch.testing.assert_close(probabilities.softmax(dim=1), expected)


def test_each_stage_looks_at_the_boxes_of_the_one_before():
    widen, shift = [0.0, 0.0, 5 * math.log(2), 0.0], [2.0, 0.0, 0.0, 0.0]
    lower = [0.0, 0.0, 0.0, 15 * math.log(1.5)]
    stages = [([0.0, math.log(3)], widen), ([0.0, math.log(27)], shift), ([0.0, 0.0], lower)]
    head = make_head(stages, average_logits=True)
    proposals = make_proposals([[60.0, 40.0, 80.0, 60.0]])
    found = head([torch.zeros(1, 1, 4, 4)], proposals, SIZES)
    seen = [stage.feature_extractor.seen[0].tolist() for stage in head.stages]
    # Twice as wide; then by a tenth of the new width to the right.
    expected = [[[60, 40, 80, 60]], [[50, 40, 90, 60]], [[54, 40, 94, 60]]]
    torch.testing.assert_close(torch.tensor(seen), torch.tensor(expected).float())
    # The last stage answers for the boxes: half as high again.
    torch.testing.assert_close(found.boxes, torch.tensor([[[54.0, 35.0, 94.0, 65.0]]]))
    score = 81 ** (1 / 3) / (1 + 81 ** (1 / 3))  # all three agree on it
    torch.testing.assert_close(found.scores, torch.tensor([[score]]))


def learning_case():
    """One object of 40 x 40, and proposals of IoU .55, .65, .75 and 0 with it."""
    truth = [20.0, 20.0, 60.0, 60.0]
    widths = [40 * iou for iou in (0.55, 0.65, 0.75)]
    proposals = make_proposals(
        [*([20.0, 20.0, 20 + width, 60.0] for width in widths), [100.0, 20.0, 140.0, 60.0]]
    )
    targets = Targets(
        torch.tensor([[truth]]), torch.tensor([[1]]), torch.tensor([[True]]), torch.tensor([3])
    )
    return targets, proposals


STILL = ([0.0, 0.0], [0.0, 0.0, 0.0, 0.0])  # hands the boxes on as they are
FEATURES = [torch.zeros(1, 1, 4, 4)]


@pytest.mark.parametrize("resample", [True, False])
def test_later_stages_ask_for_more_overlap(resample):
    targets, proposals = learning_case()
    stages, _ = make_head([STILL] * 3, resample=resample).learn(FEATURES, proposals, targets, SIZES)
    assert [int((stage.labels > 0).sum()) for stage in stages] == [4, 3, 2]
    assert [int(stage.valid.sum()) for stage in stages] == [5, 5, 5]


@pytest.mark.parametrize("resample", [True, False])
def test_ground_truth_is_proposed_anew_or_refined(resample):
    targets, proposals = learning_case()
    moved = ([0.0, 0.0], [1.0, 0.0, 0.0, 0.0])  # by a tenth of the width to the right
    stages, _ = make_head([moved] * 2, resample=resample).learn(FEATURES, proposals, targets, SIZES)
    starts = sorted(stages[1].boxes[0, stages[1].valid[0], 0].tolist())
    kept = 20.0 if resample else 24.0
    torch.testing.assert_close(starts, sorted([22.2, 22.6, 23.0, 104.0, kept]))
    from_truth = stages[1].valid & (stages[1].candidates >= stages[0].valid.shape[1])
    assert bool(from_truth.any()) is resample


def test_boxes_that_leave_the_image_are_left_out():
    targets, proposals = learning_case()
    away = ([0.0, 0.0], [90.0, 0.0, 0.0, 0.0])
    stages, _ = make_head([away, STILL], resample=False).learn(FEATURES, proposals, targets, SIZES)
    assert stages[1].valid.sum() == 0


def test_losses_of_a_stage_are_weighted():
    targets, proposals = learning_case()
    head = make_head([STILL] * 3)
    stages, losses = head.learn(FEATURES, proposals, targets, SIZES)
    assert len(losses) == 6
    for number, weight in enumerate((1.0, 0.5, 0.25)):
        _, own = head.stages[number].learn(FEATURES, all_rows(stages[number]), targets)
        for name, loss in own.items():
            weighted = losses[f"{name}_stage{number}"]
            torch.testing.assert_close(weighted.total, weight * loss.total)
            assert weighted.count == loss.count
    # The third stage has one positive but the object itself: three quarters as wide, an eighth of
    # the object's width too far left. Smooth L1 of its offsets 30 * (5 / 30) and 15 * log(4 / 3).
    expected = 0.25 * (30 * 5 / 30 - 0.5 + 15 * math.log(4 / 3) - 0.5)
    assert losses["loss_box_reg_stage2"].total.item() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_of_the_maps_is_scaled_and_nothing_else():
    targets, proposals = learning_case()
    results = []
    for factor in (1.0, 1 / 3):
        head = make_head([STILL] * 3, feature_gradient=factor)
        for stage in head.stages:
            stage.feature_extractor.forward = lambda features, rois: (
                rois[:, 1:] * features[0].mean()
            )
            stage.predictor = nn.Linear(4, 10)
            nn.init.constant_(stage.predictor.weight, 1e-3)
            nn.init.zeros_(stage.predictor.bias)
            stage.predictor.forward = lambda x, p=stage.predictor: nn.functional.linear(
                x, p.weight, p.bias
            ).split((2, 8), dim=1)
        maps = torch.ones(1, 1, 4, 4, requires_grad=True)
        _, losses = head.learn([maps], proposals, targets, SIZES)
        sum(loss.total for loss in losses.values()).backward()
        results.append((maps.grad, head.stages[1].predictor.weight.grad))
    (full, weights), (scaled, same) = results
    assert full.abs().max() > 0
    torch.testing.assert_close(scaled, full / 3)
    torch.testing.assert_close(same, weights)


@pytest.mark.parametrize("dialect", ["mmdet", "detectron2"])
def test_a_cascade_trains_and_detects(make_tiny_model, toy_batch, dialect):
    one_mask_head = dialect == "detectron2"
    model = make_tiny_model(
        CONFIG,
        MODEL__DIALECT=dialect,
        MODEL__ROI_BOX_CASCADE_HEAD__MASK_PER_STAGE=not one_mask_head,
    )
    losses = model(*toy_batch, seeds=[1, 2])
    names = {f"{name}_stage{i}" for name in PER_STAGE for i in range(3)}
    if one_mask_head:
        names = {name for name in names if "mask" not in name} | {"loss_mask"}
    assert set(losses) == names | {"loss_objectness", "loss_rpn_box_reg"}
    assert all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()
    without = [name for name, value in model.named_parameters() if value.grad is None]
    assert not without
    model.eval().roi_heads.box.stages[-1].score_threshold = 0.0
    with torch.inference_mode():
        found = model(toy_batch[0])
    for boxlist in found:
        assert len(boxlist) > 0
        assert boxlist.get_field("mask").shape == (len(boxlist), 1, 28, 28)


def test_masks_are_the_mean_of_the_stages(make_tiny_model, toy_batch):
    model = make_tiny_model(CONFIG).eval()
    model.roi_heads.box.stages[-1].score_threshold = 0.0
    for stage, probability in zip(model.roi_heads.mask.stages, (0.5, 0.8, 0.2), strict=True):
        nn.init.zeros_(stage.predictor.mask_fcn_logits.weight)
        logit = math.log(probability / (1 - probability))
        nn.init.constant_(stage.predictor.mask_fcn_logits.bias, logit)
    with torch.inference_mode():
        masks = model(toy_batch[0])[0].get_field("mask")
    torch.testing.assert_close(masks, torch.full_like(masks, 0.5))


def test_a_stage_has_its_own_offsets_and_overlap():
    with torch.device("meta"):
        heads = build_detection_model(get_cfg(CONFIG)).roi_heads
    weights = [stage.box_coder.weights for stage in heads.box.stages]
    # mmdetection states their inverses: 0.1 and 0.2, 0.05 and 0.1, 0.033 and 0.067.
    deviations = [(0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067)]
    inverse = [tuple(1 / deviation for deviation in four) for four in deviations]
    torch.testing.assert_close(weights, inverse)
    assert [sampler.matcher.high_threshold for sampler in heads.box.samplers] == [0.5, 0.6, 0.7]
    assert [stage.loss_beta for stage in heads.box.stages] == [1, 1, 1]
    assert all(sampler.proposes_objects for sampler in heads.box.samplers)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["MODEL.CLS_AGNOSTIC_BBOX_REG", False], "CLS_AGNOSTIC_BBOX_REG True"),
        (["MODEL.ROI_BOX_CASCADE_HEAD.IOUS", (0.5, 0.6)], "each of the 2 stages"),
        (["MODEL.ROI_BOX_CASCADE_HEAD.IOUS", (0.5, 0.6, 70.0)], "within 0 and 1"),
        (["MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS", [[1.0]] * 3], "dx, dy, dw, dh"),
        (["MODEL.ROI_MASK_HEAD.SHARE_BOX_FEATURE_EXTRACTOR", True], "must be False in a cascade"),
    ],
)
def test_settings_that_make_no_cascade_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        get_cfg(CONFIG, keys)
