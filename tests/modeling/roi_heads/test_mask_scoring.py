"""Mask Scoring R-CNN: what a mask's rating is compared with, and what becomes of it."""

import pytest
import torch
from torch import nn

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.modeling.roi_heads.mask_head.mask_scoring import mask_ious
from maskrcnn_lib.modeling.roi_heads.regions import Rows
from maskrcnn_lib.modeling.targets import batch_targets

CONFIG = "mmdet/ms-rcnn_r50-caffe_fpn_1x_coco"
SMALL_POOLER = {
    "MODEL__ROI_MASK_HEAD__POOLER_RESOLUTION": 6,
    "MODEL__ROI_MASK_HEAD__RESOLUTION": 12,
}


def test_iou_is_that_with_the_whole_object():
    goal = torch.zeros(3, 4, 4)
    goal[:, :, :2] = 1  # the left half of the region
    logits = torch.full((3, 4, 4), -1.0)
    logits[0, :, :2] = 1  # found as it is
    logits[1, :2] = 1  # the upper half: a quarter in common
    logits[2, :, :2] = 1  # found as it is, but the object goes on outside: as large as the region
    ious = mask_ious(logits, goal, torch.tensor([0.5, 0.5, 1.0]))
    torch.testing.assert_close(ious, torch.tensor([1.0, 0.25 / 0.75, 0.5 / 1.0]))


def test_ratings_are_learnt_beside_the_masks(make_tiny_model, toy_batch, make_target):
    model = make_tiny_model(CONFIG, **SMALL_POOLER)
    images, targets = toy_batch
    for batch in (targets, [make_target([], [])] * 2):
        model.zero_grad()
        losses = model(images, batch, seeds=[1, 2])
        assert {"loss_mask", "loss_maskiou"} < set(losses)
        sum(losses.values()).backward()
        for name, value in model.named_parameters():
            assert value.grad is not None and value.grad.isfinite().all(), name
    assert losses["loss_maskiou"] == 0  # without objects


@pytest.mark.parametrize(
    ("region", "rating", "error"),
    [
        ([8, 8, 56, 48], 1.0, 0.0),  # the object itself
        ([8, 8, 56, 48], 0.0, 1.0),
        ([8, 8, 32, 48], 0.0, 0.5),  # its left half
        ([8, 8, 104, 48], 0.75, 0.25),  # the mask is twice as wide as the object
    ],
)
def test_the_loss_is_half_the_squared_error(make_tiny_model, make_target, region, rating, error):
    """Masks fill their regions, as objects fill their boxes."""
    head = make_tiny_model(CONFIG, **SMALL_POOLER).roi_heads.mask
    for layer, bias in ((head.predictor.mask_fcn_logits, 5.0), (head.iou_head.fc_mask_iou, rating)):
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, bias)
    targets = batch_targets(
        [make_target([[8, 8, 56, 48]], [1], (128, 128))],
        [(128, 128)],
        device=torch.device("cpu"),
        num_classes=4,
        with_masks=True,
    )
    rows = Rows(
        rois=torch.tensor([[0.0, *region], [0, 0, 0, 9, 9]]),
        labels=torch.tensor([1, 0]),
        matched=torch.tensor([0, 0]),
        valid=torch.tensor([True, False]),
        positions=torch.tensor([0, 1]),
    )
    features = [torch.zeros(1, 16, 128 // stride, 128 // stride) for stride in (4, 8, 16, 32)]
    loss = head.learn(features, rows, targets)["loss_maskiou"]
    assert loss.count == 1
    torch.testing.assert_close(loss.total.item(), 0.5 * error**2)


def test_masks_get_a_score_of_their_own_that_counts_for_masks_alone(make_tiny_model, toy_batch):
    from maskrcnn_lib.engine.testing import _only

    model = make_tiny_model(CONFIG, **SMALL_POOLER, MODEL__ROI_HEADS__SCORE_THRESH=0.0).eval()
    layer = model.roi_heads.mask.iou_head.fc_mask_iou
    nn.init.zeros_(layer.weight)
    layer.bias.data = torch.tensor([0.0, 0.25, 0.5, 0.75])
    with torch.inference_mode():
        found = model(toy_batch[0])[0]
    scores, labels = found.get_field("scores"), found.get_field("labels")
    torch.testing.assert_close(found.get_field("mask_scores"), scores * labels / 4)
    result = found.to_coco(image_id=1, category_ids=[-1, 1, 2, 3])[0]
    boxes, masks = _only("bbox", result), _only("segm", result)
    assert boxes["score"] == scores[0].item()
    assert masks["score"] == found.get_field("mask_scores")[0].item()
    assert "mask_score" not in boxes and "mask_score" not in masks


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["MODEL.MASK_ON", False], "needs MODEL.MASK_ON"),
        (
            [
                *("MODEL.ROI_BOX_CASCADE_HEAD.IOUS", (0.5, 0.6, 0.7)),
                *("MODEL.CLS_AGNOSTIC_BBOX_REG", True),
            ],
            "does not go with a cascade",
        ),
    ],
)
def test_settings_without_masks_to_rate_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        get_cfg(CONFIG, keys)


def test_other_extractors_are_refused():
    with pytest.raises(ValueError, match="MaskRCNNFPNFeatureExtractor"), torch.device("meta"):
        build_detection_model(get_cfg("d2go/mask_rcnn_fbnetv3a_C4", ["MODEL.MASKIOU_ON", True]))
