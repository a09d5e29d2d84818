"""mmdetection's files: complete lists of names, and the class order of both versions."""

import re

import pytest
import torch

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.checkpoint.class_names import coco_class_names
from maskrcnn_lib.checkpoint.exporters import export_weights
from maskrcnn_lib.checkpoint.importers import mmdetection, torchvision
from maskrcnn_lib.checkpoint.native import FORMAT
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.detector import build_detection_model

from .mmdetection_shapes import mmdetection_tensors

BOX, MASK = "roi_heads.box.predictor.", "roi_heads.mask.predictor."
# Number of tensors that mmdetection's own models have.
TENSORS = {
    "mask": 360,
    "faster": 348,
    "c4": 328,
    "retinanet": 354,
    "cascade": 364,
    "cascade-mask": 400,
    "ms": 374,
    "point": 364,
    "yolof": 446,
}


def _model(config):
    with torch.device("meta"):
        return build_detection_model(get_cfg(config))


CONFIGS = {
    "mask-rcnn_r50_fpn_1x_coco": ("mask", "resnet50"),
    "mask-rcnn_r50-caffe_fpn_1x_coco": ("mask", "resnet50"),
    "faster-rcnn_r50_fpn_1x_coco": ("faster", "resnet50"),
    "faster-rcnn_r101_fpn_1x_coco": ("faster", "resnet101"),
    "faster-rcnn_r50-caffe_c4-1x_coco": ("c4", "resnet50"),
    "faster-rcnn_r50-caffe-dc5_1x_coco": ("dc5", "resnet50"),
    "mask-rcnn_x101-64x4d_fpn_ms-poly-3x_coco": ("mask", "resnext101_64x4d"),
    "rpn_r101_fpn_1x_coco": ("rpn", "resnet101"),
    "retinanet_r50_fpn_1x_coco": ("retinanet", "resnet50"),
    "retinanet_r18_fpn_1x_coco": ("retinanet", "resnet18"),
    "ms-rcnn_r50-caffe_fpn_1x_coco": ("ms", "resnet50"),
    "point-rend_r50-caffe_fpn_ms-1x_coco": ("point", "resnet50"),
    "cascade-rcnn_r50_fpn_1x_coco": ("cascade", "resnet50"),
    "cascade-mask-rcnn_r50_fpn_1x_coco": ("cascade-mask", "resnet50"),
    "yolof_r50-c5_8xb8-1x_coco": ("yolof", "resnet50"),
}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("version", [1, 2])
def test_file_fills_the_model(config, version):
    kind, builder = CONFIGS[config]
    tensors = mmdetection_tensors(kind, version=version, builder=builder)
    if builder == "resnet50" and kind in TENSORS:
        assert len(tensors) == TENSORS[kind]
    model = _model(f"mmdet/{config}")
    content = {"meta": {"epoch": 12}, "state_dict": tensors}
    report = load_weights(model, content, strict=True)
    assert report.loaded == list(model.state_dict())
    old = version == 1 and kind not in ("retinanet", "rpn", "yolof")
    assert (report.format, report.dialect) == ("mmdetection", "mmdet_v1" if old else "mmdet")
    assert report.class_names == (None if kind == "rpn" else coco_class_names())
    counters = [name for name in report.ignored if name != "epoch"]
    assert all(name.endswith("num_batches_tracked") for name in counters)


def test_renamed_and_permuted_keys_are_reported():
    tensors = mmdetection_tensors("mask")
    tensors["neck.lateral_convs.4.conv.bias"] = tensors.pop("neck.lateral_convs.3.conv.bias")
    tensors["roi_head.bbox_head.fc_cls.weight"], tensors["roi_head.bbox_head.fc_reg.weight"] = (
        tensors["roi_head.bbox_head.fc_reg.weight"],
        tensors["roi_head.bbox_head.fc_cls.weight"],
    )
    report = load_weights(_model("mmdet/mask-rcnn_r50_fpn_1x_coco"), {"state_dict": tensors})
    assert report.missing == ["backbone.fpn.fpn_inner4.bias"]
    assert report.unexpected == ["backbone.fpn.fpn_inner5.bias"]
    assert set(report.reinitialised) == {f"{BOX}cls_score.weight", f"{BOX}bbox_pred.weight"}


def test_renamed_and_permuted_keys_of_yolof_are_reported():
    tensors = mmdetection_tensors("yolof")
    renamed = "neck.dilated_encoder_blocks.2.conv2.conv.weight"
    tensors["neck.dilated_encoder_blocks.4.conv2.conv.weight"] = tensors.pop(renamed)
    tensors["bbox_head.cls_subnet.1.bias"] = tensors.pop("bbox_head.cls_subnet.1.bn.bias")
    first, second = "bbox_head.bbox_pred.weight", "bbox_head.object_pred.weight"
    tensors[first], tensors[second] = tensors[second], tensors[first]
    report = load_weights(_model("mmdet/yolof_r50-c5_8xb8-1x_coco"), {"state_dict": tensors})
    assert report.missing == ["backbone.fpn.blocks.2.conv2.0.weight", "rpn.head.cls_tower.4.bias"]
    assert report.unexpected == [
        "backbone.fpn.blocks.4.conv2.0.weight",
        "bbox_head.cls_subnet.1.bias",
    ]
    assert set(report.reinitialised) == {
        "rpn.head.bbox_pred.weight",
        "rpn.head.object_logits.weight",
    }


def test_yolof_in_a_native_file_keeps_the_epsilon_of_the_norms_that_learn():
    names = ("backbone.layer1.0.bn1", "neck.fpn_norm", "bbox_head.cls_subnet.0.bn")
    stored = {f"{name}.running_var": torch.tensor([1e-6, 1.0]) for name in names}
    stored["bbox_head.object_pred.bias"] = torch.zeros(5)
    native = export_weights(mmdetection.convert(stored), FORMAT)
    frozen = native.pop("backbone.body.layer1.0.bn1.running_var")
    torch.testing.assert_close(frozen, torch.tensor([1.1e-5, 1.00001]), rtol=1e-6, atol=0)
    for name in ("backbone.fpn.fpn_norm", "rpn.head.cls_tower.1"):
        assert torch.equal(native[f"{name}.running_var"], torch.tensor([1e-6, 1.0]))


def test_layers_of_yolof_come_to_their_places():
    stored = {
        "bbox_head.object_pred.bias": torch.arange(5.0),
        "bbox_head.bbox_subnet.3.bn.running_var": torch.tensor([1.0]),
        "bbox_head.cls_subnet.1.conv.weight": torch.tensor([2.0]),
        "bbox_head.cls_score.bias": torch.arange(15.0),
        "neck.dilated_encoder_blocks.3.conv1.bn.bias": torch.tensor([3.0]),
    }
    imported = mmdetection.convert(stored)
    assert {name: value.tolist() for name, value in imported.tensors.items()} == {
        "rpn.head.object_logits.bias": [0, 1, 2, 3, 4],
        "rpn.head.bbox_tower.10.running_var": [1],
        "rpn.head.cls_tower.3.weight": [2],
        "rpn.head.cls_logits.bias": list(range(15)),  # anchor by anchor as here
        "backbone.fpn.blocks.3.conv1.1.bias": [3],
    }
    assert imported.unmapped == []


def _head(prefix, classes, background):
    rows = classes + background
    return {
        f"{prefix}bbox_head.fc_cls.bias": torch.arange(classes + 1.0),
        f"{prefix}bbox_head.fc_reg.bias": torch.arange(4.0 * rows),
        f"{prefix}mask_head.conv_logits.bias": torch.arange(float(rows)),
    }


def _renamed_from_torchvision(name):
    """The name in mmdetection 2 of a parameter of torchvision's Mask R-CNN."""
    for theirs, here in (
        (r"backbone\.body\.(.*)", r"backbone.\1"),
        (r"backbone\.fpn\.inner_blocks\.(\d)\.0\.(.*)", r"neck.lateral_convs.\1.conv.\2"),
        (r"backbone\.fpn\.layer_blocks\.(\d)\.0\.(.*)", r"neck.fpn_convs.\1.conv.\2"),
        (r"rpn\.head\.conv\.0\.0\.(.*)", r"rpn_head.rpn_conv.\1"),
        (r"rpn\.head\.cls_logits\.(.*)", r"rpn_head.rpn_cls.\1"),
        (r"rpn\.head\.bbox_pred\.(.*)", r"rpn_head.rpn_reg.\1"),
        (r"roi_heads\.box_head\.fc6\.(.*)", r"roi_head.bbox_head.shared_fcs.0.\1"),
        (r"roi_heads\.box_head\.fc7\.(.*)", r"roi_head.bbox_head.shared_fcs.1.\1"),
        (r"roi_heads\.box_predictor\.cls_score\.(.*)", r"roi_head.bbox_head.fc_cls.\1"),
        (r"roi_heads\.box_predictor\.bbox_pred\.(.*)", r"roi_head.bbox_head.fc_reg.\1"),
        (r"roi_heads\.mask_head\.(\d)\.0\.(.*)", r"roi_head.mask_head.convs.\1.conv.\2"),
        (r"roi_heads\.mask_predictor\.conv5_mask\.(.*)", r"roi_head.mask_head.upsample.\1"),
        (
            r"roi_heads\.mask_predictor\.mask_fcn_logits\.(.*)",
            r"roi_head.mask_head.conv_logits.\1",
        ),
    ):
        if re.fullmatch(theirs, name):
            return re.sub(theirs, here, name)
    raise AssertionError(name)


def test_the_same_weights_from_torchvision_and_mmdetection_are_the_same_model():
    """mmdetection's outputs equal torchvision's exactly with weights that were moved like this."""
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    weights = {
        name: torch.rand(value.shape[:1])[(...,) + (None,) * (value.dim() - 1)].expand(value.shape)
        for name, value in _on_meta(maskrcnn_resnet50_fpn).items()
        if value.dim()
    }
    moved = {_renamed_from_torchvision(name): value for name, value in weights.items()}
    for suffix in ("weight", "bias"):
        scores = moved[f"roi_head.bbox_head.fc_cls.{suffix}"]
        moved[f"roi_head.bbox_head.fc_cls.{suffix}"] = torch.cat((scores[1:], scores[:1]))
        for name, rows in (("bbox_head.fc_reg", 4), ("mask_head.conv_logits", 1)):
            moved[f"roi_head.{name}.{suffix}"] = moved[f"roi_head.{name}.{suffix}"][rows:]
    first, second = torchvision.convert(weights), mmdetection.convert(moved)
    assert first.tensors.keys() == second.tensors.keys()
    assert first.norm_eps == second.norm_eps
    for name, value in first.tensors.items():
        unused = {f"{BOX}bbox_pred": 4, f"{MASK}mask_fcn_logits": 1}.get(name.rpartition(".")[0], 0)
        assert torch.equal(value[unused:], second.tensors[name][unused:]), name


def _on_meta(build):
    with torch.device("meta"):
        return build(weights=None, weights_backbone=None).state_dict()


def test_background_is_last_since_version_2():
    native = mmdetection.convert(_head("roi_head.", 3, 0)).tensors
    assert native[f"{BOX}cls_score.bias"].tolist() == [3, 0, 1, 2]
    assert native[f"{BOX}bbox_pred.bias"].tolist() == [0] * 4 + list(range(12))
    assert native[f"{MASK}mask_fcn_logits.bias"].tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize(("prefix", "background"), [("roi_head.", 0), ("", 1)])
def test_a_stage_of_a_cascade_is_ordered_as_a_head_of_its_own(prefix, background):
    stored = {
        f"{prefix}bbox_head.0.fc_cls.bias": torch.arange(4.0),
        f"{prefix}bbox_head.0.fc_reg.bias": torch.arange(4.0),
        f"{prefix}mask_head.0.conv_logits.bias": torch.arange(3.0 + background),
    }
    native = mmdetection.convert(stored).tensors
    box, mask = "roi_heads.box.stages.0.predictor.", "roi_heads.mask.stages.0.predictor."
    classes = [0, 1, 2, 3] if background else [3, 0, 1, 2]
    assert native[f"{box}cls_score.bias"].tolist() == classes
    # One regressor for all classes, which is the second of ours.
    assert native[f"{box}bbox_pred.bias"].tolist() == [0, 0, 0, 0, 0, 1, 2, 3]
    masks = [0, 1, 2, 3] if background else [0, 0, 1, 2]
    assert native[f"{mask}mask_fcn_logits.bias"].tolist() == masks


def test_background_is_first_in_version_1():
    native = mmdetection.convert(_head("", 3, 1)).tensors
    assert native[f"{BOX}cls_score.bias"].tolist() == [0, 1, 2, 3]
    assert native[f"{BOX}bbox_pred.bias"].tolist() == list(range(16))
    assert native[f"{MASK}mask_fcn_logits.bias"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("meta", "names"),
    [
        ({"dataset_meta": {"classes": ("cat", "balloon")}}, ("cat", "balloon")),
        ({"CLASSES": ["cat", "balloon"]}, ("cat", "balloon")),
        ({"CLASSES": "balloon"}, ("balloon",)),
    ],
)
def test_class_names_are_those_that_the_file_tells(meta, names):
    assert mmdetection.stored_class_names({"meta": meta}) == ("__background", *names)
    assert mmdetection.stored_class_names({"meta": {"epoch": 1}}) is None
