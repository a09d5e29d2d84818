"""Weights leave in other toolboxes' formats and come back as they were."""

import pytest
import torch

from maskrcnn_lib.checkpoint import load_weights, save_weights
from maskrcnn_lib.checkpoint.conversion import convert_weights
from maskrcnn_lib.checkpoint.exporters import export_weights
from maskrcnn_lib.checkpoint.files import read_checkpoint
from maskrcnn_lib.checkpoint.importers import ImportedWeights
from maskrcnn_lib.checkpoint.loading import import_content
from maskrcnn_lib.checkpoint.native import FORMAT
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.tools import cli

BOX = "roi_heads.box.predictor."
GROUP_NORM = "gn_baselines/e2e_mask_rcnn_R_50_FPN_Xconv1fc_1x_gn"
CASCADE = "mmdet/cascade-mask-rcnn_r50_fpn_1x_coco"  # with one mask head, as detectron2 has it


def _model(config, device="meta"):
    overrides = ["MODEL.ROI_BOX_CASCADE_HEAD.MASK_PER_STAGE", config != CASCADE]
    with torch.device(device):
        return build_detection_model(get_cfg(config, overrides))


def _native(config):
    """Native weights of a config's model, between 1 and 2 so that a variance is one."""
    torch.manual_seed(0)
    state = _model(config).state_dict()
    tensors = {n: torch.rand(v.shape) + 1 for n, v in state.items() if "num_batches" not in n}
    for name, value in tensors.items():
        if "predictor.bbox_pred." in name or "predictor.mask_fcn_logits." in name:
            value[: 4 if "bbox" in name else 1] = 0  # of the background, which nobody uses
    return tensors


def _assert_same(tensors, expected):
    assert tensors.keys() == expected.keys()
    for name, value in expected.items():
        if name.endswith("running_var"):
            # epsilon was taken away and added again: two roundings of values below 2
            torch.testing.assert_close(tensors[name], value, rtol=0, atol=2 * 2**-24 * 2)
        else:
            assert torch.equal(tensors[name], value), name


@pytest.mark.parametrize(
    ("config", "to"),
    [
        ("torchvision/maskrcnn_resnet50_fpn", "torchvision"),
        ("torchvision/keypointrcnn_resnet50_fpn", "torchvision"),
        ("torchvision/retinanet_resnet50_fpn", "torchvision"),
        ("torchvision/retinanet_resnet50_fpn_v2", "torchvision"),
        ("torchvision/maskrcnn_resnet50_fpn_v2", "torchvision"),
        ("torchvision/fasterrcnn_mobilenet_v3_large_fpn", "torchvision"),
        ("e2e_mask_rcnn_R_50_FPN_1x", "detectron2"),
        ("e2e_keypoint_rcnn_R_50_FPN_1x", "detectron2"),
        ("e2e_faster_rcnn_R_50_C4_1x", "detectron2"),
        ("retinanet/retinanet_R-50-FPN_1x", "detectron2"),
        (GROUP_NORM, "detectron2"),
        (CASCADE, "detectron2"),
    ],
)
def test_exported_weights_come_back(config, to):
    native = _native(config)
    exported = export_weights(ImportedWeights(FORMAT, native), to)
    back = import_content(exported, source="a test")
    assert (back.format, back.unmapped, back.norm_eps) == (to, [], 1e-5)
    back.tensors.update(_with_eps(back.tensors, back.norm_eps))
    _assert_same(back.tensors, native)


def _with_eps(tensors, eps):
    return {name: value + eps for name, value in tensors.items() if name.endswith("running_var")}


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ("e2e_mask_rcnn_R_50_FPN_1x", "mask_fpn"),
        ("e2e_keypoint_rcnn_R_50_FPN_1x", "keypoint_fpn"),
        ("e2e_faster_rcnn_R_50_C4_1x", "faster_c4"),
        ("retinanet/retinanet_R-50-FPN_1x", "retinanet"),
        (GROUP_NORM, "mask_fpn_gn"),
        (CASCADE, "cascade_mask_fpn"),
    ],
)
def test_detectron2_gets_exactly_its_own_names_and_shapes(detectron2_tensors, config, kind):
    exported = export_weights(ImportedWeights(FORMAT, _model(config).state_dict()), "detectron2")
    shapes = {name: tuple(value.shape) for name, value in exported.items()}
    assert shapes == {name: tuple(v.shape) for name, v in detectron2_tensors(kind).items()}


@pytest.mark.parametrize(
    "name",
    [
        "keypointrcnn_resnet50_fpn",
        "retinanet_resnet50_fpn_v2",
        "fasterrcnn_resnet50_fpn_v2",
        "maskrcnn_resnet50_fpn_v2",
        "fasterrcnn_mobilenet_v3_large_fpn",
        "fasterrcnn_mobilenet_v3_large_320_fpn",
    ],
)
def test_torchvision_gets_exactly_its_own_names_and_shapes(name):
    from torchvision.models import detection

    with torch.device("meta"):
        peer = getattr(detection, name)(weights=None, weights_backbone=None)
    ours = export_weights(
        ImportedWeights(FORMAT, _model(f"torchvision/{name}").state_dict()), "torchvision"
    )
    # Frozen norms do not count batches, in torchvision's trained models neither.
    shapes = [
        {n: v.shape for n, v in tensors.items() if not n.endswith("num_batches_tracked")}
        for tensors in (ours, peer.state_dict())
    ]
    assert shapes[0] == shapes[1]
    peer.load_state_dict(ours, strict=True, assign=True)


def test_exported_file_gives_torchvision_the_detections_of_ours(tmp_path):
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    from maskrcnn_lib.engine.inference import build_detector

    torch.manual_seed(3)
    config = get_cfg("torchvision/maskrcnn_resnet50_fpn", ["MODEL.DEVICE", "cpu"])
    config.merge_from_list(["INPUT.MIN_SIZE_TEST", 160, "INPUT.MAX_SIZE_TEST", 200])
    config.merge_from_list(["MODEL.RPN.FPN_POST_NMS_TOP_N_TEST", 50])
    model = build_detection_model(config)
    with torch.no_grad():
        model.roi_heads.box.predictor.cls_score.weight.mul_(10)  # scores that differ
        model.backbone.body.stem.bn1.running_var.uniform_(0.5, 1.5)
    save_weights(model, tmp_path / "ours.pth", config=config.dump())
    convert_weights(tmp_path / "ours.pth", tmp_path / "theirs.pth", to="torchvision")
    theirs = maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        min_size=160,
        max_size=200,
        rpn_post_nms_top_n_test=50,
    ).eval()
    theirs.load_state_dict(torch.load(tmp_path / "theirs.pth", weights_only=True), strict=True)
    image = torch.randint(0, 256, (150, 190, 3), dtype=torch.uint8)
    found = build_detector(config, tmp_path / "ours.pth")([image.numpy()])[0]
    with torch.inference_mode():
        expected = theirs([image.permute(2, 0, 1) / 255])[0]
    assert len(expected["boxes"]) > 20
    torch.testing.assert_close(found.bbox, expected["boxes"], rtol=0, atol=0.01)
    torch.testing.assert_close(found.get_field("scores"), expected["scores"], rtol=0, atol=1e-5)
    assert torch.equal(found.get_field("labels"), expected["labels"])


def test_no_anchor_ever_gets_torchvisions_label_0():
    config = "torchvision/retinanet_resnet50_fpn"
    exported = export_weights(ImportedWeights(FORMAT, _native(config)), "torchvision")
    head = "head.classification_head.cls_logits"
    bias = exported[f"{head}.bias"].view(9, 91)
    assert (bias[:, 0].sigmoid() < 1e-12).all()
    assert not exported[f"{head}.weight"].view(9, 91, 256, 3, 3)[:, 0].any()


def test_background_and_anchors_are_where_detectron2_has_them():
    tensors = {
        f"{BOX}cls_score.bias": torch.arange(4.0),
        f"{BOX}bbox_pred.bias": torch.arange(16.0),
        "rpn.head.cls_logits.bias": torch.arange(15.0),
        "rpn.head.bbox_pred.bias": torch.arange(60.0),
    }
    exported = export_weights(ImportedWeights(FORMAT, tensors), "detectron2")
    assert exported["roi_heads.box_predictor.cls_score.bias"].tolist() == [1, 2, 3, 0]
    assert exported["roi_heads.box_predictor.bbox_pred.bias"].tolist() == list(range(4, 16))
    # ours: ratio by ratio, 5 sizes each; theirs: size by size, 3 ratios each
    logits = exported["proposal_generator.rpn_head.objectness_logits.bias"]
    assert logits.tolist() == [5 * ratio + size for size in range(5) for ratio in range(3)]


def test_shared_layers_leave_once():
    model = _model("e2e_mask_rcnn_R_50_C4_1x", "cpu")
    names = export_weights(ImportedWeights(FORMAT, model.state_dict()), "detectron2")
    assert "roi_heads.mask_head.deconv.weight" in names
    assert sum("res5.0.conv1.weight" in name for name in names) == 1


@pytest.mark.parametrize(
    ("config", "to", "words"),
    [
        ("e2e_faster_rcnn_R_50_C4_1x", "torchvision", "roi_heads.box.feature_extractor.head"),
        ("d2go/mask_rcnn_fbnetv3a_C4", "detectron2", "backbone.body.trunk"),
    ],
)
def test_model_that_the_other_toolbox_does_not_have_is_refused(config, to, words):
    with pytest.raises(ValueError, match=words):
        export_weights(ImportedWeights(FORMAT, _model(config, "cpu").state_dict()), to)


def test_body_alone_and_unknown_formats_are_refused():
    body = ImportedWeights("caffe2", {"stem.conv1.weight": torch.ones(1)}, body_only=True)
    with pytest.raises(ValueError, match="a body alone"):
        export_weights(body, FORMAT)
    with pytest.raises(ValueError, match="choose from maskrcnn_lib, torchvision, detectron2"):
        export_weights(ImportedWeights(FORMAT, {}), "onnx")


@pytest.mark.data
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_command_writes_a_native_file_with_the_config_and_classes(
    test_data, tmp_path, monkeypatch, suffix
):
    name, target = "d2go/keypoint_rcnn_fbnetv3a_dsmask_C4", tmp_path / f"model{suffix}"
    source = test_data / "weights" / "keypoint_rcnn_fbnetv3a_dsmask_float.pth"
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(source.parent))
    # the catalog knows which config its weights are for
    arguments = [str(source), str(target), "--config", name]
    if suffix == ".pth":
        arguments = [f"catalog://{name}", str(target)]
    assert cli.main(["convert-weights", *arguments]) == 0
    content = read_checkpoint(target)
    assert content["class_names"] == ["__background", "person"]
    assert content["config"] == get_cfg(name).dump()
    first, second = _model(name, "cpu"), _model(name, "cpu")
    load_weights(first, source, strict=True)
    report = load_weights(second, target, strict=True)
    assert (report.format, report.dialect) == (FORMAT, "d2go")
    for value, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(value, other)


def test_command_says_what_it_read_and_which_conventions_differ(tmp_path, capsys, caffe2_blobs):
    source, target = tmp_path / "blobs.pth", tmp_path / "out.pth"
    torch.save(caffe2_blobs("faster_fpn"), source)
    assert cli.main(["convert-weights", str(source), str(target), "--to", "detectron2"]) == 0
    text = capsys.readouterr().out
    for words in ("caffe2, ", "not needed", "detectron2, ", "conventions of maskrcnn_benchmark"):
        assert words in text
    assert set(read_checkpoint(target)) == {"model"}


def test_nothing_is_written_where_something_has_no_name(tmp_path, capsys, caffe2_blobs):
    source, target = tmp_path / "blobs.pth", tmp_path / "out.pth"
    torch.save(caffe2_blobs("faster_fpn") | {"strange_w": torch.ones(1)}, source)
    assert cli.main(["convert-weights", str(source), str(target)]) == 1
    assert "strange_w" in capsys.readouterr().err
    safetensors = tmp_path / "out.safetensors"
    arguments = ["convert-weights", str(source), str(safetensors), "--to", "torchvision"]
    assert cli.main(arguments) == 1
    assert "out.pth" in capsys.readouterr().err
    assert not target.exists() and not safetensors.exists()
