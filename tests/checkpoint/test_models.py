"""Complete checkpoints of every known toolbox fill our models without a remainder."""

import pytest
import torch
from torch import nn

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.checkpoint.class_names import coco_category_names, coco_class_names
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.detector import build_detection_model

PERSON = ("__background", "person")


def _model(config: str, *, device: str = "meta") -> nn.Module:
    """The model of a config; on "meta" it has names and shapes but no values."""
    with torch.device(device):
        return build_detection_model(get_cfg(config))


@pytest.mark.parametrize(
    ("config", "kind", "body"),
    [
        ("caffe2/e2e_faster_rcnn_R_50_C4_1x_caffe2", "faster_c4", "R_50"),
        ("caffe2/e2e_mask_rcnn_R_50_C4_1x_caffe2", "mask_c4", "R_50"),
        ("caffe2/e2e_faster_rcnn_R_50_FPN_1x_caffe2", "faster_fpn", "R_50"),
        ("caffe2/e2e_mask_rcnn_R_50_FPN_1x_caffe2", "mask_fpn", "R_50"),
        ("caffe2/e2e_faster_rcnn_R_101_FPN_1x_caffe2", "faster_fpn", "R_101"),
        ("caffe2/e2e_mask_rcnn_R_101_FPN_1x_caffe2", "mask_fpn", "R_101"),
        ("caffe2/e2e_faster_rcnn_X_101_32x8d_FPN_1x_caffe2", "faster_fpn", "X_101_32x8d"),
        ("caffe2/e2e_mask_rcnn_X_101_32x8d_FPN_1x_caffe2", "mask_fpn", "X_101_32x8d"),
        ("caffe2/e2e_mask_rcnn_X-152-32x8d-FPN-IN5k_1.44x_caffe2", "mask_fpn", "X-152-32x8d"),
        ("caffe2/e2e_keypoint_rcnn_R_50_FPN_1x_caffe2", "keypoint_fpn", "R_50"),
        ("detectron/e2e_mask_rcnn_X-101-64x4d-FPN_2x", "mask_fpn", "X_101_64x4d"),
        ("detectron/e2e_keypoint_rcnn_X-101-32x8d-FPN_s1x", "keypoint_fpn", "X_101_32x8d"),
        ("detectron/rpn_R-50-C4_1x", "rpn_c4", "R_50"),
        ("detectron/fast_rcnn_R-50-C4_2x", "fast_faster_c4", "R_50"),
        ("detectron/mask_rcnn_X-101-64x4d-FPN_1x", "fast_mask_fpn", "X_101_64x4d"),
        ("detectron/keypoint_rcnn_R-101-FPN_s1x", "fast_keypoint_fpn", "R_101"),
        ("detectron/mask_rcnn_R-50-FPN_1x_gn", "fast_mask_fpn_gn", "R_50"),
        ("detectron/rpn_person_only_X-101-64x4d-FPN_1x", "rpn_fpn", "X_101_64x4d"),
        ("detectron/e2e_mask_rcnn_R-50-FPN_2x_gn", "mask_fpn_gn", "R_50"),
        ("detectron/scratch_e2e_mask_rcnn_R-101-FPN_3x_gn", "mask_fpn_gn", "R_101"),
    ],
)
def test_detectron_file_fills_the_model(caffe2_blobs, config, kind, body):
    model = _model(config)
    report = load_weights(model, {"blobs": caffe2_blobs(kind, body)}, strict=True)
    assert report.loaded == list(model.state_dict())
    assert all(name.endswith("_momentum") for name in report.ignored)
    kind = kind.removeprefix("fast_")
    names = {"keypoint_fpn": PERSON, "rpn_c4": None, "rpn_fpn": None}
    assert report.class_names == names.get(kind, coco_class_names())
    assert report.dialect == "maskrcnn_benchmark"


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ("e2e_mask_rcnn_R_50_FPN_1x", "mask_fpn"),
        ("e2e_faster_rcnn_R_50_C4_1x", "faster_c4"),
        ("e2e_keypoint_rcnn_R_50_FPN_1x", "keypoint_fpn"),
    ],
)
def test_detectron2_file_fills_the_model(detectron2_tensors, config, kind):
    arrays = {
        "pixel_mean": torch.zeros(3, 1, 1),
        **{name: value.numpy() for name, value in detectron2_tensors(kind).items()},
    }
    content = {"model": arrays, "__author__": "Detectron2 Model Zoo"}
    model = _model(config)
    report = load_weights(model, content, strict=True)
    assert report.loaded == list(model.state_dict())
    assert (report.format, report.dialect) == ("detectron2", "detectron2")
    assert report.class_names == (PERSON if kind == "keypoint_fpn" else coco_class_names())


@pytest.mark.parametrize("config", ["e2e_mask_rcnn_R_50_FPN_1x", "e2e_mask_rcnn_R_50_C4_1x"])
def test_maskrcnn_benchmark_file_fills_the_model(config):
    model = _model(config)
    stored = {f"module.{name}": value for name, value in model.state_dict().items()}
    stored["module.rpn.anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)
    report = load_weights(_model(config), {"model": stored}, strict=True)
    assert report.format == "maskrcnn_benchmark"
    assert report.loaded == list(model.state_dict())


@pytest.mark.parametrize(
    "name", ["fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn"]
)
def test_torchvision_model_fills_ours(name):
    from torchvision.models import detection

    with torch.device("meta"):
        theirs = getattr(detection, name)(weights=None, weights_backbone=None)
    model = _model(f"torchvision/{name}")
    report = load_weights(model, theirs.state_dict(), strict=True)
    assert report.loaded == list(model.state_dict())
    assert all(ignored.endswith("num_batches_tracked") for ignored in report.ignored)
    assert report.class_names == (PERSON if "keypoint" in name else coco_category_names())


def test_torchvision_file_with_the_old_names_fills_the_model():
    from torchvision.models import detection

    with torch.device("meta"):
        theirs = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    old = {}
    for name, value in theirs.items():
        if name.endswith("num_batches_tracked"):
            continue
        if ".inner_blocks." in name or ".layer_blocks." in name:
            name = name.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for index in range(4):
            name = name.replace(f"mask_head.{index}.0.", f"mask_head.mask_fcn{index + 1}.")
        old[name] = value
    assert len(old) == 307
    report = load_weights(_model("torchvision/maskrcnn_resnet50_fpn"), old, strict=True)
    assert report.ignored == []


@pytest.mark.parametrize(
    ("config", "file"),
    [
        ("d2go/mask_rcnn_fbnetv3a_C4", "mask_rcnn_fbnetv3a_float.pth"),
        ("d2go/faster_rcnn_fbnetv3a_C4", "faster_rcnn_fbnetv3a_C4_float.pth"),
        ("d2go/keypoint_rcnn_fbnetv3a_dsmask_C4", "keypoint_rcnn_fbnetv3a_dsmask_float.pth"),
    ],
)
@pytest.mark.data
def test_d2go_file_fills_the_model(test_data, config, file):
    model = _model(config, device="cpu")
    path = test_data / "weights" / file
    report = load_weights(model, path, strict=True)
    assert report.loaded == list(model.state_dict())
    assert (report.format, report.dialect) == ("d2go", "d2go")
    assert report.class_names == (PERSON if "keypoint" in config else coco_class_names())
    stored = torch.load(path, weights_only=True)
    ours = model.state_dict()
    scores = stored["roi_heads.box_predictor.cls_score.weight"]
    assert torch.equal(ours["roi_heads.box.predictor.cls_score.weight"][0], scores[-1])
    assert torch.equal(ours["roi_heads.box.predictor.cls_score.weight"][1:], scores[:-1])
    # 5 sizes x 3 ratios in the file; 3 ratios x 5 sizes here.
    logits = stored["proposal_generator.rpn_head.rpn_regressor.cls_logits.bias"]
    assert torch.equal(ours["rpn.head.cls_logits.bias"], logits.view(5, 3).T.flatten())


@pytest.mark.data
def test_d2go_anchors_belong_to_their_channels(test_data):
    """The file's own anchors, reordered as its channels are, are those that our model makes."""
    from maskrcnn_lib.checkpoint.importers.detectron2 import ratio_major_order

    path = test_data / "weights" / "mask_rcnn_fbnetv3a_float.pth"
    anchors = torch.load(path, weights_only=True)[
        "proposal_generator.anchor_generator.cell_anchors.0"
    ]
    model = _model("d2go/mask_rcnn_fbnetv3a_C4", device="cpu")
    (cell_anchors,) = model.rpn.anchor_generator.cell_anchors
    # Both tables are computed in floating point; 1e-3 px is far below any anchor's size.
    torch.testing.assert_close(cell_anchors, anchors[ratio_major_order(anchors)], rtol=0, atol=1e-3)


@pytest.mark.parametrize("config", ["e2e_mask_rcnn_R_50_FPN_1x", "e2e_mask_rcnn_R_50_C4_1x"])
@pytest.mark.data
def test_imagenet_file_of_detectron_fills_the_whole_body(test_data, config):
    model = _model(config, device="cpu")
    report = load_weights(model, test_data / "weights" / "R-50.pkl")
    body = [name for name in model.state_dict() if ".body." in name or ".head.layer4." in name]
    assert set(body) <= set(report.loaded)
    assert (report.unexpected, report.reinitialised) == ([], [])
    assert sorted(report.ignored) == ["fc1000_b", "fc1000_w"]
    norm = model.backbone.body.stem.bn1
    assert torch.equal(norm.running_var, torch.ones(64))
    assert norm.weight.std() > 0
