"""R-FCN: score maps, the vote of the bins, and a model that learns."""

import pytest
import torch

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.layers import PSROIAlign, PSROIPool
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.modeling.roi_heads.box_head.rfcn import RFCNFeatureExtractor, RFCNPredictor
from maskrcnn_lib.structures.boxlist_ops import boxlist_iou

CONFIG = "maskrcnn_lib/rfcn_R_50_C5_1x"
SMALL = {
    "MODEL__RESNETS__RES5_DILATION": 2,
    "MODEL__RESNETS__BACKBONE_OUT_CHANNELS": 128,
    "MODEL__RFCN__REDUCED_CHANNELS": 32,
    "MODEL__RFCN__PS_GRID_SIZE": 3,
}


def extractor(**options):
    torch.manual_seed(0)
    settings = {"num_logits": 3, "num_offsets": 8, "bins": 4, "reduced_channels": 0, **options}
    return RFCNFeatureExtractor(PSROIPool(2, 0.5), 5, **settings)


def test_each_bin_votes_from_maps_of_its_own():
    """Map (c * 2 + i) * 2 + j is constant c + i / 10 + j / 100; logits are the mean over i, j."""
    head = extractor()
    for conv, count in ((head.conv_cls, 3), (head.conv_bbox_pred, 8)):
        torch.nn.init.zeros_(conv.weight)
        c, i, j = torch.meshgrid(torch.arange(count), *[torch.arange(2)] * 2, indexing="ij")
        conv.bias.data = (c + i / 10 + j / 100).flatten()
    rois = torch.tensor([[0, 2.0, 2.0, 14.0, 14.0], [1, 4.0, 6.0, 10.0, 16.0]])
    pooled = head([torch.randn(2, 5, 10, 10)], rois)
    assert pooled.shape == (2, 11, 2, 2)
    bins = torch.tensor([[0.0, 0.01], [0.1, 0.11]])
    torch.testing.assert_close(pooled[1, 2], 2 + bins)
    logits, offsets = RFCNPredictor(3)(pooled)
    torch.testing.assert_close(logits, (torch.arange(3) + bins.mean()).expand(2, 3))
    torch.testing.assert_close(offsets, (torch.arange(8) + bins.mean()).expand(2, 8))


def test_a_region_costs_no_convolution():
    """The maps of an image are the same whatever regions are asked for."""
    head = extractor(reduced_channels=6).eval()
    features = [torch.randn(1, 5, 12, 12)]
    rois = torch.tensor([[0, 2.0, 2.0, 14.0, 14.0], [0, 4.0, 6.0, 10.0, 16.0]])
    together = head(features, rois)
    torch.testing.assert_close(together, torch.cat([head(features, roi[None]) for roi in rois]))


def test_the_config_is_the_papers():
    with torch.device("meta"):
        model = build_detection_model(get_cfg(CONFIG))
    head = model.roi_heads.box.feature_extractor
    assert head.conv_cls.weight.shape == (81 * 49, 1024, 1, 1)
    assert head.conv_bbox_pred.weight.shape == (2 * 4 * 49, 1024, 1, 1)
    assert isinstance(head.pooler, PSROIPool)
    assert not list(model.roi_heads.box.predictor.parameters())
    cfg = get_cfg(CONFIG, ["MODEL.RFCN.ALIGN", True])
    with torch.device("meta"):
        model = build_detection_model(cfg)
    assert isinstance(model.roi_heads.box.feature_extractor.pooler, PSROIAlign)


def test_several_levels_are_refused(make_tiny_model):
    with pytest.raises(ValueError, match="R-FCN reads one feature map"):
        make_tiny_model(
            MODEL__ROI_BOX_HEAD__FEATURE_EXTRACTOR="RFCNFeatureExtractor", MODEL__MASK_ON=False
        )


@pytest.mark.parametrize("align", [False, True])
def test_all_of_it_learns(make_tiny_model, toy_batch, align):
    model = make_tiny_model(CONFIG, **SMALL, MODEL__RFCN__ALIGN=align)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    totals = []
    for _ in range(12):
        losses = model(*toy_batch, seeds=[1, 2])
        optimizer.zero_grad()
        total = sum(losses.values())
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    head = model.roi_heads.box.feature_extractor
    assert all(value.grad.abs().sum() > 0 for value in head.parameters())
    assert totals[-1] < 0.6 * totals[0]
    with torch.no_grad():
        found = model.eval()(toy_batch[0])
    assert [boxes.size for boxes in found] == [(96, 96), (96, 96)]


@pytest.mark.slow
def test_four_pictures_are_learned_by_heart(make_tiny_model, make_target):
    """Rectangles on noise: the best detections are the objects, class by class (AP50 of 1)."""
    targets = [
        make_target([[8, 8, 56, 48], [40, 50, 90, 92]], [1, 2]),
        make_target([[30, 10, 88, 70]], [3]),
        make_target([[4, 40, 44, 90], [50, 6, 92, 40]], [2, 3]),
        make_target([[20, 20, 70, 76]], [1]),
    ]
    images = torch.randn(4, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    for image, target in zip(images, targets, strict=True):
        for box, label in zip(target.bbox.long().tolist(), target.get_field("labels"), strict=True):
            x1, y1, x2, y2 = box
            image[int(label) - 1, y1:y2, x1:x2] += 4
    model = make_tiny_model(
        CONFIG,
        **SMALL,
        MODEL__NORM="batch",
        MODEL__RPN__ANCHOR_SIZES=(32, 64),
        MODEL__RPN__STRADDLE_THRESH=-1,
        MODEL__RPN__POST_NMS_TOP_N_TEST=50,
    )
    steps = 400
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        losses = model(images, targets, seeds=range(4 * step, 4 * step + 4))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found = model.eval()(images)
    for best, target in zip(found, targets, strict=True):
        best = best[: len(target)]
        order = best.get_field("labels").argsort()
        assert torch.equal(best.get_field("labels")[order], target.get_field("labels"))
        assert boxlist_iou(best[order], target).diagonal().min() > 0.5
