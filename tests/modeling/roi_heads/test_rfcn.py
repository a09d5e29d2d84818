"""R-FCN: score maps, the vote of the bins, and a model that learns."""

import pytest
import torch

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.layers import PSROIAlign, PSROIPool
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.modeling.roi_heads.box_head.rfcn import RFCNFeatureExtractor, RFCNPredictor

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
    assert model.rpn.head.conv.weight.shape == (512, 2048, 3, 3)
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
