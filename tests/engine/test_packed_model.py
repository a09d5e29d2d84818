"""A detector with packed layers finds what the plain model finds."""

import pytest
import torch

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.data.image_io import read_image
from maskrcnn_lib.engine.inference import build_detector
from maskrcnn_lib.layers.packed import PackedConv2d, pack_layers
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.modeling.fuse import fuse_frozen_norms
from maskrcnn_lib.modeling.poolers import boxes_to_rois
from maskrcnn_lib.structures.image_list import to_image_list


def parts(model, images, boxes, labels):
    """What every part of the model says, without the choices that jump at small differences."""
    features = model.backbone(images.tensors)
    objectness, offsets = model.rpn.head(features)
    box, mask = model.roi_heads.box, model.roi_heads.mask
    rois = boxes_to_rois(boxes)
    classes = box.predictor(box.feature_extractor(features, rois))
    logits = mask.predictor(mask.feature_extractor(features, rois), labels)
    return [*features, *objectness, *offsets, *classes, logits]


# float32: sums of some hundred layers in another order. bfloat16: rounded to 1/256 in each layer.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize(
    "name", ["torchvision/maskrcnn_resnet50_fpn", "d2go/mask_rcnn_fbnetv3a_C4"]
)
@torch.inference_mode()
def test_every_part_of_a_packed_model_says_the_same(name, dtype, tolerance):
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor has no bfloat16")
    torch.manual_seed(0)
    model = build_detection_model(get_cfg(name)).eval()
    images = to_image_list(torch.randn(1, 3, 96, 128), 32)
    images.tensors = images.tensors.to(memory_format=torch.channels_last)
    boxes = torch.tensor([[[5.0, 8.0, 60.0, 70.0], [30.0, 2.0, 120.0, 90.0]]])
    labels = torch.tensor([1, 7])
    plain = parts(model, images, boxes, labels)
    packed = pack_layers(fuse_frozen_norms(model).to(memory_format=torch.channels_last), dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        mine = parts(packed, images, boxes, labels)
    for part, reference in zip(mine, plain, strict=True):
        difference = (part.float() - reference).norm() / reference.norm()
        assert difference < tolerance, (tuple(part.shape), float(difference))


@pytest.mark.data
def test_a_detector_on_the_cpu_is_packed_and_finds_the_same_objects(test_data, monkeypatch):
    """Boxes to a hundredth of a pixel, scores and mask probabilities to 1e-4."""
    cfg = get_cfg("d2go/mask_rcnn_fbnetv3a_C4", ["MODEL.DEVICE", "cpu"])
    weights = test_data / "weights" / "mask_rcnn_fbnetv3a_float.pth"
    image = read_image(sorted((test_data / "coco_mini" / "val2017").iterdir())[0])
    fast = build_detector(cfg, weights)
    assert any(isinstance(layer, PackedConv2d) for layer in fast.model.modules())
    monkeypatch.setattr("maskrcnn_lib.engine.fast_model.pack_layers", lambda model, dtype: model)
    mine, reference = fast([image])[0], build_detector(cfg, weights)([image])[0]
    assert len(mine) == len(reference) > 3
    assert torch.equal(mine.get_field("labels"), reference.get_field("labels"))
    torch.testing.assert_close(mine.bbox, reference.bbox, atol=0.01, rtol=0)
    for field in ("scores", "mask"):
        torch.testing.assert_close(
            mine.get_field(field), reference.get_field(field), atol=1e-4, rtol=0
        )
