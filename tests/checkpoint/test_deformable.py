"""Deformable bodies under the names that the toolboxes wrote: each tensor finds its place."""

import re

import pytest
import torch

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.checkpoint.exporters import export_weights
from maskrcnn_lib.checkpoint.loading import import_content
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.detector import build_detection_model

resnet = pytest.importorskip("torchvision.models.resnet")

DEFORMABLE = re.compile(r"layer([234])\.(\d+)\.conv2\.weight")
CHANNELS = {"dconv": 18, "mdconv": 27}


def _layers(layers):
    return {
        name: shape
        for layer, weight in layers.items()
        for name, shape in ((f"{layer}.weight", weight), (f"{layer}.bias", weight[:1]))
    }


def _zeros(shapes):
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def body(offset, conv="{conv}", *, kind):
    """Names and shapes of ResNet-50, and of the offsets of its last three stages.

    Args:
        offset, conv: what the offsets' layer and the convolution itself are called; "{conv}" is
            torchvision's name of the convolution.
        kind: "dconv" or "mdconv".
    """
    with torch.device("meta"):
        state = resnet.resnet50(weights=None).state_dict()
    shapes = {}
    for name, value in state.items():
        if name.startswith("fc."):
            continue
        if DEFORMABLE.fullmatch(name):
            layer = name.removesuffix(".weight")
            shapes |= _layers({offset.format(conv=layer): (CHANNELS[kind], value.shape[1], 3, 3)})
            name = f"{conv.format(conv=layer)}.weight"
        shapes[name] = tuple(value.shape)
    return shapes


def benchmark_file(kind):
    """maskrcnn-benchmark's Mask R-CNN, whose norms do not count batches."""
    names = body("{conv}.offset", "{conv}.conv", kind=kind)
    shapes = {
        f"backbone.body.{'' if name.startswith('layer') else 'stem.'}{name}": shape
        for name, shape in names.items()
        if not name.endswith("num_batches_tracked")
    }
    layers = {
        "rpn.head.conv": (256, 256, 3, 3),
        "rpn.head.cls_logits": (3, 256, 1, 1),
        "rpn.head.bbox_pred": (12, 256, 1, 1),
        "roi_heads.box.feature_extractor.fc6": (1024, 12544),
        "roi_heads.box.feature_extractor.fc7": (1024, 1024),
        "roi_heads.box.predictor.cls_score": (81, 1024),
        "roi_heads.box.predictor.bbox_pred": (324, 1024),
        "roi_heads.mask.predictor.conv5_mask": (256, 256, 2, 2),
        "roi_heads.mask.predictor.mask_fcn_logits": (81, 256, 1, 1),
    }
    for level in range(1, 5):
        layers[f"backbone.fpn.fpn_inner{level}"] = (256, 128 * 2**level, 1, 1)
        layers[f"backbone.fpn.fpn_layer{level}"] = (256, 256, 3, 3)
        layers[f"roi_heads.mask.feature_extractor.mask_fcn{level}"] = (256, 256, 3, 3)
    shapes |= _layers(layers)
    shapes |= {f"rpn.anchor_generator.cell_anchors.{level}": (3, 4) for level in range(5)}
    return {"model": {f"module.{name}": value for name, value in _zeros(shapes).items()}}


def mmdetection_file(kind, *, version):
    """mmdetection's Faster R-CNN."""
    offset, head = ("{conv}_offset", "") if version == 1 else ("{conv}.conv_offset", "roi_head.")
    shapes = {f"backbone.{name}": shape for name, shape in body(offset, kind=kind).items()}
    layers = {
        "rpn_head.rpn_conv": (256, 256, 3, 3),
        "rpn_head.rpn_cls": (3, 256, 1, 1),
        "rpn_head.rpn_reg": (12, 256, 1, 1),
        f"{head}bbox_head.shared_fcs.0": (1024, 12544),
        f"{head}bbox_head.shared_fcs.1": (1024, 1024),
        f"{head}bbox_head.fc_cls": (81, 1024),
        f"{head}bbox_head.fc_reg": (324 if version == 1 else 320, 1024),
    }
    for level in range(4):
        layers[f"neck.lateral_convs.{level}.conv"] = (256, 256 * 2**level, 1, 1)
        layers[f"neck.fpn_convs.{level}.conv"] = (256, 256, 3, 3)
    return {"meta": {}, "state_dict": _zeros(shapes | _layers(layers))}


def model_of(config):
    with torch.device("meta"):
        return build_detection_model(get_cfg(config))


@pytest.mark.parametrize("kind", CHANNELS)
def test_maskrcnn_benchmark_file_fills_the_model(kind):
    model = model_of(f"dcn/e2e_mask_rcnn_{kind}_R_50_FPN_1x")
    report = load_weights(model, benchmark_file(kind), strict=True)
    assert (report.format, report.loaded) == ("maskrcnn_benchmark", list(model.state_dict()))
    assert sum(".conv2.offset." in name for name in report.loaded) == 2 * (4 + 6 + 3)


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("version", [1, 2])
def test_mmdetection_file_fills_the_model(kind, version):
    model = model_of(f"mmdet/faster-rcnn_r50-{kind}-c3-c5_fpn_1x_coco")
    report = load_weights(model, mmdetection_file(kind, version=version), strict=True)
    assert (report.format, report.loaded) == ("mmdetection", list(model.state_dict()))


def test_weights_of_one_version_do_not_fit_the_other_and_a_renamed_one_is_reported():
    content = benchmark_file("dconv")
    tensors = content["model"]
    home = "module.backbone.body.layer2.0.conv2."
    tensors[f"{home}shift.bias"] = tensors.pop(f"{home}offset.bias")
    report = load_weights(model_of("dcn/e2e_mask_rcnn_mdconv_R_50_FPN_1x"), content)
    assert report.missing == ["backbone.body.layer2.0.conv2.offset.bias"]
    assert report.unexpected == ["backbone.body.layer2.0.conv2.shift.bias"]
    assert len(report.reinitialised) == 2 * (4 + 6 + 3) - 1


def test_a_plain_body_of_imagenet_leaves_only_the_offsets():
    with torch.device("meta"):
        state = resnet.resnet50(weights=None).state_dict()
    content = _zeros({name: tuple(value.shape) for name, value in state.items()})
    model = model_of("dcn/e2e_faster_rcnn_dconv_R_50_FPN_1x")
    report = load_weights(model, content)
    lost = [name for name in report.missing if name.startswith("backbone.body.")]
    assert len(lost) == 2 * (4 + 6 + 3)
    assert all(".conv2.offset." in name for name in lost)


def test_detectron2_gets_its_own_names_and_they_lead_back():
    weights = import_content(benchmark_file("mdconv"), source="a file")
    exported = export_weights(weights, "detectron2")
    offsets = {name for name in exported if "offset" in name}
    assert len(offsets) == 2 * (4 + 6 + 3)
    assert "backbone.bottom_up.res3.0.conv2_offset.weight" in offsets
    model = model_of("dcn/e2e_mask_rcnn_mdconv_R_50_FPN_1x")
    assert load_weights(model, exported, strict=True).format == "detectron2"
