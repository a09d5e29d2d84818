"""RetinaNet files of every toolbox: complete lists of names, and channels in the order of ours."""

import pytest
import torch

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.checkpoint.class_names import coco_category_names, coco_class_names
from maskrcnn_lib.checkpoint.class_rows import rearrange_classes
from maskrcnn_lib.checkpoint.importers import caffe2, detectron2, torchvision
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.detector import build_detection_model

LOGITS, OFFSETS, TOWER = "rpn.head.cls_logits", "rpn.head.bbox_pred", "rpn.head.cls_tower.0.bias"
CLASSES = 80


def _model(config):
    with torch.device("meta"):
        return build_detection_model(get_cfg(config))


@pytest.mark.parametrize(
    ("config", "body"),
    [
        ("detectron/retinanet_R-50-FPN_1x", "R_50"),
        ("detectron/retinanet_R-101-FPN_1x", "R_101"),
        ("detectron/retinanet_X-101-32x8d-FPN_1x", "X_101_32x8d"),
        ("detectron/retinanet_X-101-64x4d-FPN_1x", "X_101_64x4d"),
    ],
)
def test_detectron_file_fills_the_model(caffe2_blobs, config, body):
    blobs = caffe2_blobs("retinanet", body)
    model = _model(config)
    report = load_weights(model, {"blobs": blobs}, strict=True)
    assert report.loaded == list(model.state_dict())
    assert all(name.endswith("_momentum") for name in report.ignored)
    assert report.class_names == coco_class_names()
    assert report.dialect == "maskrcnn_benchmark"


def test_detectron2_file_fills_the_model(detectron2_tensors):
    model = _model("retinanet/retinanet_R-50-FPN_1x")
    content = {"model": detectron2_tensors("retinanet"), "__author__": "Detectron2 Model Zoo"}
    report = load_weights(model, content, strict=True)
    assert report.loaded == list(model.state_dict())
    assert (report.format, report.dialect) == ("detectron2", "detectron2")
    assert report.class_names == coco_class_names()


@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2"])
def test_torchvision_model_fills_ours(name):
    from torchvision.models import detection

    with torch.device("meta"):
        theirs = getattr(detection, name)(weights=None, weights_backbone=None)
    model = _model(f"torchvision/{name}")
    report = load_weights(model, theirs.state_dict(), strict=True)
    assert report.loaded == list(model.state_dict())
    assert all(key.endswith("num_batches_tracked") for key in report.ignored)
    assert report.class_names == coco_category_names()


def test_maskrcnn_benchmark_file_fills_the_model():
    name = "retinanet/retinanet_R-50-FPN_P5_1x"
    model = _model(name)
    stored = {f"module.{key}": value for key, value in model.state_dict().items()}
    anchors = {f"module.rpn.anchor_generator.cell_anchors.{i}": torch.zeros(9, 4) for i in range(5)}
    report = load_weights(_model(name), {"model": stored | anchors}, strict=True)
    assert report.format == "maskrcnn_benchmark"
    assert report.loaded == list(model.state_dict())
    assert report.class_names == coco_class_names()


@pytest.mark.parametrize(
    ("original", "renamed"),
    [
        ("fpn_6_w", "fpn_8_w"),
        ("retnet_cls_pred_fpn3_w", "retnet_cls_pred_fpn4_w"),
        ("retnet_bbox_pred_fpn3_b", "retnet_bbox_pred_fpn4_b"),
    ],
)
def test_a_renamed_blob_is_reported(caffe2_blobs, original, renamed):
    blobs = caffe2_blobs("retinanet")
    blobs[renamed] = blobs.pop(original)
    report = load_weights(_model("detectron/retinanet_R-50-FPN_1x"), {"blobs": blobs})
    assert report.unexpected == [renamed]
    assert len(report.missing) == 1


def _named_rows(names):
    """Logits (anchor, class) and offsets (anchor, coordinate) that name their row."""
    anchors = torch.arange(9.0)
    return {
        names[0]: (1000 * anchors[:, None] + torch.arange(float(CLASSES))).flatten(),
        names[1]: (10 * anchors[:, None] + torch.arange(4.0)).flatten(),
    }


def _assert_anchors_moved(tensors, order):
    """order[i]: the file's anchor that became our i-th; its classes and offsets stay in order."""
    logits = tensors[f"{LOGITS}.bias"].view(9, CLASSES)
    offsets = tensors[f"{OFFSETS}.bias"].view(9, 4)
    for place, anchor in enumerate(order):
        assert logits[place].tolist() == [1000 * anchor + k for k in range(CLASSES)]
        assert offsets[place].tolist() == [10 * anchor + k for k in range(4)]


def test_detectrons_anchors_become_ratio_major():
    rows = _named_rows(("retnet_cls_pred_fpn3_b", "retnet_bbox_pred_fpn3_b"))
    rows["retnet_cls_pred_fpn3_w"] = torch.zeros(9 * CLASSES, 1, 1, 1)
    rows["retnet_cls_conv_n0_fpn3_b"] = torch.zeros(1)
    # File: octave-major, ratios 1, 2, 0.5; ours: ratio 0.5 in all octaves, then 1, then 2.
    _assert_anchors_moved(caffe2.convert(rows).tensors, [2, 5, 8, 0, 3, 6, 1, 4, 7])


@pytest.mark.parametrize("stored", [True, False])
def test_detectron2s_anchors_become_ratio_major(stored):
    rows = _named_rows(("head.cls_score.bias", "head.bbox_pred.bias"))
    rows["head.cls_score.weight"] = torch.zeros(9 * CLASSES, 1, 1, 1)
    rows["head.cls_subnet.0.bias"] = torch.zeros(1)
    if stored:
        sides = [
            (size / ratio**0.5, size * ratio**0.5)
            for size in (32.0, 40.3, 50.8)
            for ratio in (0.5, 1.0, 2.0)
        ]
        half = torch.tensor(sides) / 2
        rows["anchor_generator.cell_anchors.0"] = torch.cat((-half, half), dim=1)
    # File: size-major, ratios 0.5, 1, 2.
    _assert_anchors_moved(detectron2.convert(rows).tensors, [0, 3, 6, 1, 4, 7, 2, 5, 8])


def test_torchvisions_logits_of_label_0_are_left_out():
    head = "head.classification_head."
    rows = torch.arange(9 * 3.0)
    imported = torchvision.convert(
        {
            f"{head}conv.0.0.bias": torch.zeros(1),
            f"{head}cls_logits.weight": rows.view(27, 1, 1, 1),
            f"{head}cls_logits.bias": rows,
            "head.regression_head.bbox_reg.bias": torch.zeros(36),
        }
    )
    kept = imported.tensors[f"{LOGITS}.bias"].view(9, 2)
    assert kept.tolist() == [[3 * anchor + 1, 3 * anchor + 2] for anchor in range(9)]
    assert imported.tensors[f"{LOGITS}.weight"].shape == (18, 1, 1, 1)


def test_old_and_new_names_of_torchvision_mean_the_same():
    head = "head.classification_head."
    common = {
        f"{head}cls_logits.weight": torch.zeros(27, 1, 1, 1),
        f"{head}cls_logits.bias": torch.zeros(27),
        "head.regression_head.bbox_reg.bias": torch.zeros(36),
    }
    old = {f"{head}conv.{2 * i}.weight": torch.full((1,), float(i)) for i in range(4)}
    new = {f"{head}conv.{i}.0.weight": torch.full((1,), float(i)) for i in range(4)}
    before, after = torchvision.convert(common | old), torchvision.convert(common | new)
    assert before.tensors.keys() == after.tensors.keys()
    for i in range(4):
        assert before.tensors[f"rpn.head.cls_tower.{2 * i}.weight"].item() == i
        assert after.tensors[f"rpn.head.cls_tower.{2 * i}.weight"].item() == i
    # torchvision uses its files of that time with norm epsilon 0.
    assert (before.norm_eps, after.norm_eps) == (0.0, 1e-5)


def test_classes_of_the_same_name_keep_their_logits_of_every_anchor():
    old_names = ("__background", "person", "cat", "dog")
    new_names = ("background", "balloon", "cat", "person", "tree")
    anchors, channels = 9, 2
    weights = {
        f"{LOGITS}.weight": torch.arange(anchors * 3.0)[:, None, None, None].expand(
            -1, channels, 3, 3
        ),
        f"{LOGITS}.bias": torch.arange(anchors * 3.0),
        f"{OFFSETS}.bias": torch.zeros(4 * anchors),
    }
    targets = {
        f"{LOGITS}.weight": torch.full((anchors * 4, channels, 3, 3), -1.0),
        f"{LOGITS}.bias": torch.full((anchors * 4,), -1.0),
        f"{OFFSETS}.bias": torch.zeros(4 * anchors),
    }
    rearranged, chosen = rearrange_classes(weights, targets, old_names, new_names)
    assert chosen == [f"{LOGITS}.weight", f"{LOGITS}.bias"]
    expected = [[-1, 3 * anchor + 1, 3 * anchor, -1] for anchor in range(anchors)]
    assert rearranged[f"{LOGITS}.bias"].view(anchors, 4).tolist() == expected
    assert rearranged[f"{LOGITS}.weight"][:, 0, 0, 0].view(anchors, 4).tolist() == expected
