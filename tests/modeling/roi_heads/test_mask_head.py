"""The mask head: one class's mask at a time, sharing features, and pasting."""

import pytest
import torch

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.outputs import Detections
from maskrcnn_lib.modeling.roi_heads.mask_head.inference import Masker
from maskrcnn_lib.modeling.roi_heads.mask_head.mask_head import build_roi_mask_head
from maskrcnn_lib.modeling.roi_heads.mask_head.roi_mask_predictors import (
    ClassAgnosticMaskPredictor,
    Conv1x1MaskPredictor,
    DeconvMaskPredictor,
)
from maskrcnn_lib.modeling.roi_heads.roi_heads import build_roi_heads
from maskrcnn_lib.structures.bounding_box import BoxList


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", ["conv", "deconv"])
def test_the_mask_of_one_class_equals_its_channel_among_all(kind, memory_format):
    torch.manual_seed(0)
    predictor = (
        Conv1x1MaskPredictor(8, 5)
        if kind == "conv"
        else DeconvMaskPredictor(8, 5, hidden_channels=6)
    )
    torch.nn.init.normal_(predictor.mask_fcn_logits.bias)
    x = torch.randn(4, 8, 7, 7).contiguous(memory_format=memory_format)
    labels = torch.tensor([1, 4, 0, 1])
    every = predictor(x)
    assert every.shape == (4, 5, 7, 7) if kind == "conv" else (4, 5, 14, 14)
    torch.testing.assert_close(predictor(x, labels), every[torch.arange(4), labels])


def test_one_map_serves_all_classes():
    predictor = ClassAgnosticMaskPredictor(8, hidden_channels=6)
    x = torch.randn(3, 8, 7, 7)
    masks = predictor(x, torch.tensor([1, 4, 79]))
    assert masks.shape == (3, 14, 14)
    assert torch.equal(masks, predictor(x)[:, 0])


def some_detections(count):
    boxes = torch.tensor([5.0, 5.0, 60.0, 90.0]).expand(2, count, 4)
    return Detections(
        boxes,
        torch.ones(2, count),
        torch.ones(2, count, dtype=torch.int64),
        torch.ones(2, count, dtype=torch.bool),
    )


@pytest.mark.parametrize(
    ("name", "in_channels", "resolution"),
    [
        ("torchvision/maskrcnn_resnet50_fpn", 256, 28),
        ("d2go/mask_rcnn_fbnetv3a_C4", 112, 28),
        ("e2e_mask_rcnn_R_50_C4_1x", 1024, 14),
    ],
)
@pytest.mark.parametrize("count", [2, 0])
def test_every_head_outlines_each_detection(name, in_channels, resolution, count):
    head = build_roi_mask_head(get_cfg(name), in_channels).eval()
    scales = head.feature_extractor.pooler.scales
    features = [torch.randn(2, in_channels, int(128 * s), int(160 * s)) for s in scales]
    with torch.inference_mode():
        masks = head(features, some_detections(count)).masks
    assert masks.shape == (2, count, resolution, resolution)
    assert masks.dtype == torch.float32
    assert ((masks >= 0) & (masks <= 1)).all()


def test_c4_heads_share_their_features_as_the_config_says():
    heads = build_roi_heads(get_cfg("e2e_mask_rcnn_R_50_C4_1x"), 1024)
    assert heads.mask.feature_extractor is heads.box.feature_extractor
    names = set(heads.state_dict())
    assert "box.feature_extractor.head.layer4.0.conv1.weight" in names
    assert "mask.feature_extractor.head.layer4.0.conv1.weight" in names


def test_different_extractors_cannot_be_shared():
    cfg = get_cfg("torchvision/maskrcnn_resnet50_fpn")
    cfg.MODEL.ROI_MASK_HEAD.SHARE_BOX_FEATURE_EXTRACTOR = True
    with pytest.raises(ValueError, match="SHARE_BOX_FEATURE_EXTRACTOR"):
        build_roi_heads(cfg, 256)


@pytest.mark.parametrize("end_offset", [0.0, -1.0])
def test_masker_pastes_as_torchvision_does(end_offset):
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(6, 2, generator=generator) * 60 - 5
    boxes = torch.cat((corner, corner + 5 + 40 * torch.rand(6, 2, generator=generator)), dim=1)
    masks = torch.rand(6, 1, 28, 28, generator=generator)
    boxlist = BoxList(boxes, (90, 70))
    (pasted,) = Masker(box_end_offset=end_offset)([masks], boxlist)
    closed = boxes + torch.tensor([0.0, 0.0, end_offset, end_offset])
    values = paste_masks_in_image(masks, closed, (70, 90))
    assert pasted.shape == (6, 1, 70, 90)
    assert pasted.dtype == torch.bool
    # Pixels this near to the threshold may round to either side.
    decided = (values - 0.5).abs() > 1e-4
    assert torch.equal(pasted[decided], (values > 0.5)[decided])


def test_masker_takes_several_images_of_their_own_sizes():
    masks = [torch.ones(1, 1, 28, 28), torch.ones(0, 1, 28, 28)]
    boxes = [BoxList([[2.0, 3.0, 12.0, 13.0]], (20, 30)), BoxList(torch.zeros(0, 4), (8, 9))]
    pasted = Masker(aligned=True, box_end_offset=0.0)(masks, boxes)
    assert [tuple(image.shape) for image in pasted] == [(1, 1, 30, 20), (0, 1, 9, 8)]
    assert int(pasted[0].sum()) == 100


def test_masker_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="padding"):
        Masker(padding=2)
    with pytest.raises(ValueError, match="threshold"):
        Masker(threshold=-1)
    with pytest.raises(ValueError, match="boxes of 0"):
        Masker()([torch.zeros(0, 1, 28, 28)], [])
