"""FBNet's files of maskrcnn-benchmark: complete lists of names, all of which find their places."""

import pytest
import torch

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.checkpoint.class_names import coco_class_names
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.detector import build_detection_model

# Kernel, expansion and output channels of each block, stage by stage; stages 0 to 3 are the body.
MOBILE = [[(3, 1, 16)], [(3, 6, 24)] * 2, [(3, 6, 32)] * 3, [(3, 6, 64)] * 4 + [(3, 6, 96)] * 3]
DEFAULT = [
    *MOBILE,
    [(3, 4, 160)] + [(3, 6, 160)] * 2 + [(3, 6, 240)],
    [(3, 6, 96)] * 3,
    [(3, 4, 160)] + [(3, 6, 160)] * 3 + [(3, 3, 80)],
]
CHAM_V1A = [
    [(3, 1, 24)],
    [(7, 4, 48)] * 2,
    [(3, 7, 64)] * 5,
    [(5, 12, 56)] * 7 + [(3, 8, 88)] * 5,
    [(3, 7, 152)] * 4 + [(3, 10, 104)],
    [(3, 8, 88)] * 3,
]
XIRB16D = [
    [(3, 1, 16)],
    [(3, 6, 32)] * 2,
    [(3, 6, 48)] * 3,
    [(3, 6, 96)] * 4 + [(3, 6, 128)] * 3,
    [(3, 4, 128)] + [(3, 6, 128)] * 2 + [(3, 6, 160)],
    [(3, 4, 128)] + [(3, 6, 128)] * 3 + [(3, 3, 64)],
    [(3, 6, 128)] * 3,
]
# By config: the architecture, stem, stages of RPN, box and mask head, and of a last convolution.
MODELS = {
    "e2e_faster_rcnn_fbnet_600": (DEFAULT, 32, 5, 4, None, 0),
    "e2e_faster_rcnn_fbnet_chamv1a_600": (CHAM_V1A, 32, 5, 4, None, 0),
    "e2e_mask_rcnn_fbnet_600": (DEFAULT, 32, 5, 4, 6, 0),
    "e2e_mask_rcnn_fbnet_xirb16d_dsmask_600": (XIRB16D, 16, 6, 4, 5, 0),
    "e2e_mask_rcnn_fbnet_xirb16d_dsmask": (XIRB16D, 16, 6, 4, 5, 160),
}
NORM = ("weight", "bias", "running_mean", "running_var")


def _conv_norm(prefix, shape, *, norm=True):
    shapes = {f"{prefix}.conv.weight": shape}
    if norm:
        shapes |= {f"{prefix}.bn.{name}": shape[:1] for name in NORM}
        shapes[f"{prefix}.bn.num_batches_tracked"] = ()
    return shapes


def _stage(prefix, stage, rows, channels):
    """Shapes of a stage's blocks; depthwise convolutions have neither norm nor bias."""
    shapes = {}
    for index, (kernel, expansion, out) in enumerate(rows):
        name, width = f"{prefix}xif{stage}_{index}", channels * expansion
        shapes |= _conv_norm(f"{name}.pw", (width, channels, 1, 1))
        shapes |= _conv_norm(f"{name}.dw", (width, 1, kernel, kernel), norm=False)
        shapes |= _conv_norm(f"{name}.pwl", (out, width, 1, 1))
        channels = out
    return shapes, channels


def _with_bias(layers):
    return {
        name: shape
        for layer, weight in layers.items()
        for name, shape in ((f"{layer}.weight", weight), (f"{layer}.bias", weight[:1]))
    }


def benchmark_file(stages, stem, rpn, box, mask, last):
    """The complete file of a COCO model, as zeros."""
    shapes = _conv_norm("backbone.body.first", (stem, 3, 3, 3))
    channels = stem
    for stage in range(4):
        more, channels = _stage("backbone.body.stages.", stage, stages[stage], channels)
        shapes |= more
    rpn_shapes, rpn_out = _stage("rpn.head.0.head.", rpn, stages[rpn], channels)
    extractor = "roi_heads.{}.feature_extractor.head."
    head = extractor.format("box")
    box_shapes, box_out = _stage(f"{head}blocks.", box, stages[box], channels)
    if last:
        box_shapes |= _conv_norm(f"{head}last", (last, box_out, 1, 1))
        box_out = last
    layers = {
        "rpn.head.1.cls_logits": (15, rpn_out, 1, 1),
        "rpn.head.1.bbox_pred": (60, rpn_out, 1, 1),
        "roi_heads.box.predictor.cls_score": (81, box_out),
        "roi_heads.box.predictor.bbox_pred": (324, box_out),
    }
    if mask is not None:
        head = f"{extractor.format('mask')}blocks."
        mask_shapes, mask_out = _stage(head, mask, stages[mask], channels)
        shapes |= mask_shapes
        layers["roi_heads.mask.predictor.mask_fcn_logits"] = (81, mask_out, 1, 1)
    shapes |= rpn_shapes | box_shapes | _with_bias(layers)
    shapes["rpn.anchor_generator.cell_anchors.0"] = (15, 4)
    zeros = {f"module.{name}": torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    return {"model": zeros}


def model_of(config):
    with torch.device("meta"):
        return build_detection_model(get_cfg(config))


@pytest.mark.parametrize("config", MODELS)
def test_file_fills_the_model(config):
    model = model_of(config)
    report = load_weights(model, benchmark_file(*MODELS[config]), strict=True)
    assert (report.format, report.dialect) == ("maskrcnn_benchmark", "maskrcnn_benchmark")
    assert report.loaded == list(model.state_dict())
    assert report.ignored == ["rpn.anchor_generator.cell_anchors.0"]
    assert report.class_names == coco_class_names()


def test_renamed_and_permuted_keys_are_reported():
    config = "e2e_mask_rcnn_fbnet_600"
    content = benchmark_file(*MODELS[config])
    tensors = content["model"]
    block = "module.rpn.head.0.head.xif5_2."
    tensors[block.replace("_2", "_3") + "dw.conv.weight"] = tensors.pop(f"{block}dw.conv.weight")
    head = "module.roi_heads.mask.feature_extractor.head.blocks.xif6_0."
    first, last = f"{head}pw.conv.weight", f"{head}pwl.conv.weight"
    tensors[first], tensors[last] = tensors[last], tensors[first]
    report = load_weights(model_of(config), content)
    assert report.missing == ["rpn.head.rpn_feature.xif5_2.dw.conv.weight"]
    assert report.unexpected == ["rpn.head.rpn_feature.xif5_3.dw.conv.weight"]
    prefix = "roi_heads.mask.feature_extractor.blocks.xif6_0."
    assert set(report.reinitialised) == {f"{prefix}pw.conv.weight", f"{prefix}pwl.conv.weight"}
