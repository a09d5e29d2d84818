"""Foreign names and layouts become native ones, exactly."""

import re

import pytest
import torch

from maskrcnn_lib.checkpoint.class_names import (
    COCO_CATEGORY_IDS,
    coco_category_names,
    coco_class_names,
)
from maskrcnn_lib.checkpoint.importers import (
    IMPORTERS,
    ImportedWeights,
    detectron2,
    torchvision,
)
from maskrcnn_lib.checkpoint.importers.base import rename, to_ratio_major
from maskrcnn_lib.checkpoint.importers.detectron2 import ratio_major_order
from maskrcnn_lib.checkpoint.importers.name_pairs import NamePair, export_rules, import_rules

PERSON = ("__background", "person")
BODY, BOX, MASK = "backbone.body.", "roi_heads.box.", "roi_heads.mask."


def _convert(tensors: dict[str, torch.Tensor]) -> ImportedWeights:
    importer = next(one for one in IMPORTERS if one.recognises(tensors.keys()))
    return importer.convert(tensors)


def _named(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.ones(3) for name in names}


CAFFE2_FPN_NAMES = {
    "conv1_w": BODY + "stem.conv1.weight",
    "res_conv1_bn_s": BODY + "stem.bn1.weight",
    "res_conv1_bn_b": BODY + "stem.bn1.bias",
    "conv1_gn_s": BODY + "stem.bn1.weight",
    "conv1_gn_b": BODY + "stem.bn1.bias",
    "res2_0_branch1_w": BODY + "layer1.0.downsample.0.weight",
    "res2_0_branch1_bn_s": BODY + "layer1.0.downsample.1.weight",
    "res2_0_branch1_gn_b": BODY + "layer1.0.downsample.1.bias",
    "res2_1_branch2a_w": BODY + "layer1.1.conv1.weight",
    "res3_2_branch2b_bn_b": BODY + "layer2.2.bn2.bias",
    "res4_22_branch2c_gn_s": BODY + "layer3.22.bn3.weight",
    "res5_2_branch2c_w": BODY + "layer4.2.conv3.weight",
    "fpn_inner_res5_2_sum_w": "backbone.fpn.fpn_inner4.weight",
    "fpn_inner_res4_5_sum_lateral_b": "backbone.fpn.fpn_inner3.bias",
    "fpn_inner_res4_22_sum_lateral_w": "backbone.fpn.fpn_inner3.weight",
    "fpn_inner_res3_7_sum_lateral_w": "backbone.fpn.fpn_inner2.weight",
    "fpn_inner_res2_2_sum_lateral_w": "backbone.fpn.fpn_inner1.weight",
    "fpn_res5_2_sum_w": "backbone.fpn.fpn_layer4.weight",
    "fpn_res4_35_sum_b": "backbone.fpn.fpn_layer3.bias",
    "fpn_res2_2_sum_b": "backbone.fpn.fpn_layer1.bias",
    "conv_rpn_fpn2_w": "rpn.head.conv.weight",
    "rpn_cls_logits_fpn2_b": "rpn.head.cls_logits.bias",
    "rpn_bbox_pred_fpn2_w": "rpn.head.bbox_pred.weight",
    "fc6_w": BOX + "feature_extractor.fc6.weight",
    "fc7_b": BOX + "feature_extractor.fc7.bias",
    "cls_score_w": BOX + "predictor.cls_score.weight",
    "bbox_pred_b": BOX + "predictor.bbox_pred.bias",
    "_[mask]_fcn1_w": MASK + "feature_extractor.mask_fcn1.weight",
    "_[mask]_fcn4_b": MASK + "feature_extractor.mask_fcn4.bias",
    "_mask_fcn2_w": MASK + "feature_extractor.mask_fcn2.weight",
    "conv5_mask_w": MASK + "predictor.conv5_mask.weight",
    "mask_fcn_logits_b": MASK + "predictor.mask_fcn_logits.bias",
    "conv_fcn8_w": "roi_heads.keypoint.feature_extractor.conv_fcn8.weight",
    "kps_score_lowres_w": "roi_heads.keypoint.predictor.kps_score_lowres.weight",
}


@pytest.mark.parametrize("blob", CAFFE2_FPN_NAMES)
def test_detectron_blob_has_its_native_name(blob):
    imported = _convert(_named(blob, "conv_rpn_fpn2_w", "fc6_b"))
    assert imported.format == "caffe2"
    assert CAFFE2_FPN_NAMES[blob] in imported.tensors
    assert imported.unmapped == []


def test_detectron_c4_keeps_the_last_stage_in_the_box_head():
    imported = _convert(
        _named("conv_rpn_w", "cls_score_w", "res4_0_branch2a_w", "res5_0_branch2a_w")
        | _named("rpn_cls_logits_w", "rpn_bbox_pred_b", "_[mask]_res5_0_branch2b_bn_s")
    )
    assert BODY + "layer3.0.conv1.weight" in imported.tensors
    assert BOX + "feature_extractor.head.layer4.0.conv1.weight" in imported.tensors
    assert MASK + "feature_extractor.head.layer4.0.bn2.weight" in imported.tensors
    assert "rpn.head.cls_logits.weight" in imported.tensors
    assert "rpn.head.bbox_pred.bias" in imported.tensors
    assert imported.unmapped == []


def test_detectron_momentum_and_classifier_are_ignored_and_strangers_are_named():
    imported = _convert(
        _named("conv_rpn_w", "conv_rpn_w_momentum", "kps_score_w", "retnet_cls_pred_fpn4_w")
    )
    assert imported.ignored == ["conv_rpn_w_momentum", "kps_score_w"]
    assert imported.unmapped == ["retnet_cls_pred_fpn4_w"]
    classifier = _convert(_named("conv1_w", "res2_0_branch2a_w", "fc1000_w", "pred_b"))
    assert classifier.ignored == ["fc1000_w", "pred_b"]
    assert sorted(classifier.tensors) == ["layer1.0.conv1.weight", "stem.conv1.weight"]
    assert classifier.body_only


def test_detectron_affine_layers_get_mean_0_and_variance_1():
    imported = _convert(_named("conv1_w", "res_conv1_bn_s", "res_conv1_bn_b", "res2_0_branch2a_w"))
    assert torch.equal(imported.tensors["stem.bn1.running_mean"], torch.zeros(3))
    assert torch.equal(imported.tensors["stem.bn1.running_var"], torch.ones(3))
    assert imported.norm_eps == 0.0


def test_detectron_group_norm_gets_no_statistics():
    imported = _convert(_named("conv1_w", "conv1_gn_s", "conv1_gn_b", "res2_0_branch2a_w"))
    assert not any("running" in name for name in imported.tensors)


def test_detectron_body_with_statistics_keeps_them():
    imported = _convert(
        _named("conv1_w", "res2_0_branch2a_w", "res_conv1_bn_gamma", "res_conv1_bn_beta")
        | _named("res_conv1_bn_running_mean", "res_conv1_bn_running_var")
    )
    norm = [name for name in imported.tensors if name.startswith("stem.bn1")]
    assert sorted(norm) == [
        f"stem.bn1.{key}" for key in ("bias", "running_mean", "running_var", "weight")
    ]
    assert imported.norm_eps == 1e-5


def test_only_zero_biases_of_convolutions_are_ignored():
    tensors = _named("conv1_w", "res2_0_branch2a_w", "conv1_b", "res2_0_branch2a_b")
    tensors["res2_0_branch2a_b"] = torch.zeros(3)
    imported = _convert(tensors)
    assert imported.ignored == ["res2_0_branch2a_b"]
    assert imported.unmapped == ["conv1_b"]


DETECTRON2_NAMES = {
    "backbone.bottom_up.stem.conv1.weight": BODY + "stem.conv1.weight",
    "backbone.bottom_up.stem.conv1.norm.running_var": BODY + "stem.bn1.running_var",
    "backbone.bottom_up.res2.0.shortcut.weight": BODY + "layer1.0.downsample.0.weight",
    "backbone.bottom_up.res2.0.shortcut.norm.bias": BODY + "layer1.0.downsample.1.bias",
    "backbone.bottom_up.res5.2.conv3.weight": BODY + "layer4.2.conv3.weight",
    "backbone.bottom_up.res5.2.conv3.norm.weight": BODY + "layer4.2.bn3.weight",
    "backbone.res4.0.conv1.weight": BODY + "layer3.0.conv1.weight",
    "roi_heads.res5.0.conv2.norm.bias": BOX + "feature_extractor.head.layer4.0.bn2.bias",
    "backbone.fpn_lateral2.weight": "backbone.fpn.fpn_inner1.weight",
    "backbone.fpn_output5.bias": "backbone.fpn.fpn_layer4.bias",
    "proposal_generator.rpn_head.conv.weight": "rpn.head.conv.weight",
    "proposal_generator.rpn_head.objectness_logits.weight": "rpn.head.cls_logits.weight",
    "proposal_generator.rpn_head.anchor_deltas.weight": "rpn.head.bbox_pred.weight",
    "roi_heads.box_head.fc1.weight": BOX + "feature_extractor.fc6.weight",
    "roi_heads.box_head.fc2.bias": BOX + "feature_extractor.fc7.bias",
    "roi_heads.box_predictor.cls_score.weight": BOX + "predictor.cls_score.weight",
    "roi_heads.box_predictor.bbox_pred.weight": BOX + "predictor.bbox_pred.weight",
    "roi_heads.box_head.2.fc1.weight": BOX + "stages.2.feature_extractor.fc6.weight",
    "roi_heads.box_predictor.0.cls_score.weight": BOX + "stages.0.predictor.cls_score.weight",
    "roi_heads.box_predictor.1.bbox_pred.bias": BOX + "stages.1.predictor.bbox_pred.bias",
    "roi_heads.mask_head.mask_fcn3.weight": MASK + "feature_extractor.mask_fcn3.weight",
    "roi_heads.mask_head.deconv.bias": MASK + "predictor.conv5_mask.bias",
    "roi_heads.mask_head.predictor.weight": MASK + "predictor.mask_fcn_logits.weight",
}


@pytest.mark.parametrize("name", DETECTRON2_NAMES)
def test_detectron2_parameter_has_its_native_name(name):
    imported = _convert(_named(name, "proposal_generator.rpn_head.conv.bias"))
    assert imported.format == "detectron2"
    assert DETECTRON2_NAMES[name] in imported.tensors
    assert imported.unmapped == []


TORCHVISION_NAMES = {
    "backbone.body.conv1.weight": BODY + "stem.conv1.weight",
    "backbone.body.bn1.running_mean": BODY + "stem.bn1.running_mean",
    "backbone.body.layer3.5.conv2.weight": BODY + "layer3.5.conv2.weight",
    "backbone.body.layer4.0.downsample.1.bias": BODY + "layer4.0.downsample.1.bias",
    "backbone.fpn.inner_blocks.0.0.weight": "backbone.fpn.fpn_inner1.weight",
    "backbone.fpn.inner_blocks.3.bias": "backbone.fpn.fpn_inner4.bias",
    "backbone.fpn.layer_blocks.2.0.bias": "backbone.fpn.fpn_layer3.bias",
    "rpn.head.conv.0.0.weight": "rpn.head.conv.weight",
    "rpn.head.conv.weight": "rpn.head.conv.weight",
    "rpn.head.cls_logits.bias": "rpn.head.cls_logits.bias",
    "rpn.head.bbox_pred.weight": "rpn.head.bbox_pred.weight",
    "roi_heads.box_head.fc6.weight": BOX + "feature_extractor.fc6.weight",
    "roi_heads.box_predictor.cls_score.bias": BOX + "predictor.cls_score.bias",
    "roi_heads.mask_head.0.0.weight": MASK + "feature_extractor.mask_fcn1.weight",
    "roi_heads.mask_head.mask_fcn4.bias": MASK + "feature_extractor.mask_fcn4.bias",
    "roi_heads.mask_predictor.conv5_mask.weight": MASK + "predictor.conv5_mask.weight",
    "roi_heads.mask_predictor.mask_fcn_logits.bias": MASK + "predictor.mask_fcn_logits.bias",
    "roi_heads.keypoint_head.0.weight": "roi_heads.keypoint.feature_extractor.conv_fcn1.weight",
    "roi_heads.keypoint_head.14.bias": "roi_heads.keypoint.feature_extractor.conv_fcn8.bias",
    "roi_heads.keypoint_predictor.kps_score_lowres.weight": (
        "roi_heads.keypoint.predictor.kps_score_lowres.weight"
    ),
}


@pytest.mark.parametrize("name", TORCHVISION_NAMES)
def test_torchvision_parameter_has_its_native_name(name):
    imported = _convert(_named(name, "roi_heads.box_head.fc7.bias"))
    assert imported.format == "torchvision"
    assert TORCHVISION_NAMES[name] in imported.tensors
    assert imported.unmapped == []


def test_torchvision_files_with_the_old_layer_names_have_no_epsilon():
    common = _named("backbone.body.conv1.weight")
    assert _convert(common | _named("rpn.head.conv.weight")).norm_eps == 0.0
    assert _convert(common | _named("rpn.head.conv.0.0.weight")).norm_eps == 1e-5


def test_maskrcnn_benchmark_anchors_are_ignored():
    imported = _convert(
        _named("rpn.anchor_generator.cell_anchors.0", "backbone.body.stem.conv1.weight")
    )
    assert imported.format == "maskrcnn_benchmark"
    assert list(imported.tensors) == ["backbone.body.stem.conv1.weight"]
    assert imported.ignored == ["rpn.anchor_generator.cell_anchors.0"]


def test_detectron2_background_moves_from_last_to_first():
    classes, features = 4, 3
    scores = torch.randn(classes + 1, features)
    deltas = torch.randn(4 * classes)
    masks = torch.randn(classes, features, 1, 1)
    imported = _convert(
        {
            "proposal_generator.rpn_head.conv.bias": torch.ones(1),
            "roi_heads.box_predictor.cls_score.weight": scores,
            "roi_heads.box_predictor.bbox_pred.bias": deltas,
            "roi_heads.mask_head.predictor.weight": masks,
        }
    )
    moved = imported.tensors[BOX + "predictor.cls_score.weight"]
    assert torch.equal(moved[0], scores[classes])
    assert torch.equal(moved[1:], scores[:classes])
    moved = imported.tensors[BOX + "predictor.bbox_pred.bias"]
    assert torch.equal(moved, torch.cat((torch.zeros(4), deltas)))
    moved = imported.tensors[MASK + "predictor.mask_fcn_logits.weight"]
    assert torch.equal(moved[1:], masks)
    assert not moved[0].any()


def _size_major_anchors(sizes: list[float], ratios: list[float]) -> torch.Tensor:
    sides = torch.tensor(
        [(size / ratio**0.5, size * ratio**0.5) for size in sizes for ratio in ratios]
    )
    return torch.cat((-sides / 2, sides / 2), 1)


def test_size_major_anchors_become_ratio_major():
    sizes, ratios = [32.0, 64.0, 128.0], [0.5, 1.0, 2.0]
    anchors = _size_major_anchors(sizes, ratios)
    order = ratio_major_order(anchors)
    expected = torch.stack(
        [anchors[s * len(ratios) + r] for r in range(len(ratios)) for s in range(len(sizes))]
    )
    assert torch.equal(anchors[order], expected)
    # Anchors that are ratio-major already stay where they are.
    assert ratio_major_order(expected) == list(range(9))


def test_anchor_order_follows_the_files_own_order_of_sizes_and_ratios():
    anchors = _size_major_anchors([64.0, 32.0], [2.0, 1.0])
    assert ratio_major_order(anchors) == [0, 2, 1, 3]


def test_anchors_that_repeat_are_refused():
    anchors = _size_major_anchors([32.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="same anchor twice"):
        ratio_major_order(anchors)


def test_permuted_channels_belong_to_the_same_anchors():
    order = [0, 2, 1, 3]
    anchor = torch.arange(4.0)
    tensors = {
        "rpn.head.cls_logits.bias": anchor,
        "rpn.head.bbox_pred.weight": (
            torch.stack([10 * anchor + k for k in range(4)], 1).view(16, 1, 1, 1)
        ),
    }
    permuted = to_ratio_major(tensors, order)
    assert permuted["rpn.head.cls_logits.bias"].tolist() == [0, 2, 1, 3]
    deltas = permuted["rpn.head.bbox_pred.weight"].flatten().tolist()
    assert deltas == [10 * a + k for a in order for k in range(4)]


def _detectron2_rpn(anchors: int, cell_anchors: torch.Tensor | None) -> dict[str, torch.Tensor]:
    rpn = "proposal_generator.rpn_head."
    tensors = {
        f"{rpn}objectness_logits.bias": torch.arange(float(anchors)),
        f"{rpn}anchor_deltas.bias": torch.arange(4.0 * anchors),
    }
    if cell_anchors is not None:
        tensors["proposal_generator.anchor_generator.cell_anchors.0"] = cell_anchors
    return tensors


def test_detectron2_c4_anchors_become_ratio_major():
    sizes, ratios = [32.0, 64.0, 128.0, 256.0, 512.0], [0.5, 1.0, 2.0]
    expected = [float(s * 3 + r) for r in range(3) for s in range(5)]
    for stored in (None, _size_major_anchors(sizes, ratios)):
        imported = _convert(_detectron2_rpn(15, stored))
        assert imported.tensors["rpn.head.cls_logits.bias"].tolist() == expected
    one_size_per_level = _convert(_detectron2_rpn(3, None))
    assert one_size_per_level.tensors["rpn.head.cls_logits.bias"].tolist() == [0, 1, 2]


def test_detectron2_anchors_of_unknown_order_are_refused():
    with pytest.raises(ValueError, match="9 anchors per position"):
        _convert(_detectron2_rpn(9, None))


def test_two_names_for_one_parameter_are_refused():
    with pytest.raises(ValueError, match=r"'a1' and 'a2' both stand for 'a'"):
        rename(_named("a1", "a2"), [(r"a\d", "a")])


def test_coco_names_are_torchvisions():
    from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

    theirs = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    ours = coco_category_names()
    assert list(ours[1:]) == theirs[1:]
    assert ours[0] == "__background"
    names = coco_class_names()
    assert len(names) == 81
    assert [theirs[category] for category in COCO_CATEGORY_IDS] == list(names[1:])


@pytest.mark.parametrize(
    ("kind", "names"),
    [("mask_fpn", coco_class_names()), ("faster_c4", coco_class_names()), ("keypoint_fpn", PERSON)],
)
def test_class_names_are_cocos_where_the_model_is(caffe2_blobs, kind, names):
    assert _convert(caffe2_blobs(kind)).class_names == names


@pytest.mark.parametrize("kind", ["faster_c4", "mask_c4", "mask_fpn", "keypoint_fpn", "imagenet"])
def test_every_blob_of_a_complete_detectron_file_is_known(caffe2_blobs, kind):
    assert _convert(caffe2_blobs(kind)).unmapped == []


@pytest.mark.parametrize("kind", ["faster_c4", "mask_fpn", "keypoint_fpn", "imagenet"])
def test_every_tensor_of_a_complete_detectron2_file_is_known(detectron2_tensors, kind):
    imported = _convert(detectron2_tensors(kind))
    assert imported.unmapped == []
    assert imported.body_only == (kind == "imagenet")


@pytest.mark.parametrize("pairs", [torchvision.PAIRS, detectron2.export_pairs([])])
def test_a_name_that_a_pair_gives_leads_back(pairs):
    for pair in pairs:
        name = re.sub(r"\{[^}]+\}", "6", pair.native.replace("{p}", "weight"))
        (foreign,) = rename({name: torch.zeros(1)}, export_rules([pair])).tensors
        assert list(rename({foreign: torch.zeros(1)}, import_rules([pair])).tensors) == [name]


def test_a_number_that_no_layer_can_have_does_not_match():
    # Layers with odd numbers are ReLUs there.
    pair = NamePair("head.{2*i}.{p}", "conv{i+1}.{p}")
    odd = {"head.4.bias": torch.zeros(1), "head.3.bias": torch.zeros(1)}
    renamed = rename(odd, import_rules([pair]))
    assert (list(renamed.tensors), renamed.unmapped) == (["conv3.bias"], ["head.3.bias"])
    first = rename({"conv0.bias": torch.zeros(1)}, export_rules([pair]))
    assert first.unmapped == ["conv0.bias"]


def test_placeholders_are_checked():
    with pytest.raises(ValueError, match=r"\{i\*2\}"):
        import_rules([NamePair("head.{i*2}.{p}", "conv{i}.{p}")])
