"""Weights reach the parameters that they belong to, and the report tells about the others."""

import logging

import numpy as np
import pytest
import torch
from torch import nn

from maskrcnn_lib.checkpoint import load_weights, save_weights
from maskrcnn_lib.checkpoint.class_names import coco_category_names, coco_class_names
from maskrcnn_lib.layers import FrozenBatchNorm2d
from maskrcnn_lib.modeling.backbone.resnet import ResNet

CLASSIFIER = "roi_heads.box.predictor.cls_score"


def _tree(modules: dict[str, nn.Module]) -> nn.Module:
    """A module whose parts have the given dotted names."""
    root = nn.Module()
    for name, module in modules.items():
        *path, last = name.split(".")
        parent = root
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = getattr(parent, part)
        parent.add_module(last, module)
    return root


def _body(blocks: tuple[int, ...] = (1, 1, 1, 1)) -> ResNet:
    return ResNet(
        blocks,
        stem_out_channels=4,
        res2_out_channels=8,
        width_per_group=2,
        stride_in_1x1=True,
        norm=FrozenBatchNorm2d,
        freeze_at=0,
    )


def _heads(classes: int = 81) -> dict[str, nn.Module]:
    return {
        "rpn.head.conv": nn.Conv2d(4, 4, 3),
        "rpn.head.cls_logits": nn.Conv2d(4, 3, 1),
        CLASSIFIER: nn.Linear(4, classes),
        "roi_heads.box.predictor.bbox_pred": nn.Linear(4, 4 * classes),
    }


def _random_state(model: nn.Module) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(value.shape, generator=generator)
        for name, value in model.state_dict().items()
    }


@pytest.mark.parametrize("prefix", ["", "module."])
def test_maskrcnn_benchmark_file_loads_completely(tmp_path, prefix):
    model = _tree({"backbone.body": _body(), **_heads()})
    state = _random_state(model)
    stored = {prefix + name: value for name, value in state.items()}
    stored[f"{prefix}rpn.anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)
    torch.save({"model": stored, "iteration": 90000, "optimizer": {"state": {}}}, tmp_path / "f")
    report = load_weights(model, tmp_path / "f")
    assert report.complete
    assert report.format == "maskrcnn_benchmark"
    assert report.dialect == "maskrcnn_benchmark"
    assert report.loaded == list(state)
    assert report.ignored == ["rpn.anchor_generator.cell_anchors.0"]
    assert report.class_names == coco_class_names()
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])


def test_a_path_may_be_a_string_and_its_ending_says_nothing(tmp_path):
    model = _tree(_heads())
    state = _random_state(model)
    torch.save({"model": state}, tmp_path / "weights.pkl")
    assert load_weights(model, str(tmp_path / "weights.pkl")).complete


def test_the_wrapping_of_native_names_says_who_wrote_them():
    model = _tree(_heads())
    state = _random_state(model)
    assert load_weights(model, {"model": state}).class_names == coco_class_names()
    report = load_weights(model, state)
    assert (report.format, report.class_names, report.dialect) == ("state_dict", None, None)


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_weights(_tree(_heads()), tmp_path / "nowhere.pth")


def test_any_module_loads_its_own_state_dict():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    state = _random_state(model)
    report = load_weights(model, state, strict=True)
    assert (report.format, report.class_names) == ("state_dict", None)
    for name, value in model.state_dict().items():
        assert torch.equal(value.float(), state[name].to(value.dtype).float())


def test_heads_of_another_class_count_keep_their_initial_values_and_are_listed():
    source = _tree({"backbone.body": _body(), **_heads(81)})
    target = _tree({"backbone.body": _body(), **_heads(9)})
    before = {name: value.clone() for name, value in target.state_dict().items()}
    state = _random_state(source)
    report = load_weights(target, {"model": state})
    heads = [
        f"roi_heads.box.predictor.{layer}.{suffix}"
        for layer in ("cls_score", "bbox_pred")
        for suffix in ("weight", "bias")
    ]
    assert report.reinitialised == heads
    assert report.shapes[heads[0]] == ((81, 4), (9, 4))
    assert (report.missing, report.unexpected) == ([], [])
    assert report.class_names is None
    for name, value in target.state_dict().items():
        assert torch.equal(value, before[name] if name in heads else state[name])


def test_renamed_parameter_is_reported_as_missing_and_unexpected():
    model = _tree(_heads())
    state = _random_state(model)
    state["rpn.head.konv.weight"] = state.pop("rpn.head.conv.weight")
    before = model.rpn.head.conv.weight.detach().clone()
    report = load_weights(model, {"model": state})
    assert report.missing == ["rpn.head.conv.weight"]
    assert report.unexpected == ["rpn.head.konv.weight"]
    assert not report.complete
    assert torch.equal(model.rpn.head.conv.weight, before)


def test_a_name_that_ends_alike_is_not_matched():
    model = _tree({"rpn.head.conv": nn.Conv2d(4, 4, 3)})
    state = {"head.conv.weight": torch.ones(4, 4, 3, 3), "rpn.head.conv.bias": torch.ones(4)}
    report = load_weights(model, {"model": state})
    assert report.unexpected == ["head.conv.weight"]
    assert report.missing == ["rpn.head.conv.weight"]


def test_strict_loading_refuses_an_incomplete_fit_and_changes_nothing():
    model = _tree(_heads())
    state = _random_state(model)
    del state["rpn.head.conv.bias"]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"(?s)do not fit.*rpn\.head\.conv\.bias"):
        load_weights(model, {"model": state}, strict=True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "content",
    [{"what": torch.ones(1)}, {"model": {"backbone.body.stem.conv1.weight": torch.ones(1)}}],
)
def test_weights_of_another_model_are_an_error_that_shows_names(content):
    with pytest.raises(ValueError, match=r"(?s)rpn\.head\.conv\.weight|fits the model"):
        load_weights(_tree(_heads()), content)


@pytest.mark.parametrize("content", [[1, 2], {"iteration": 3}, {}])
def test_content_without_tensors_is_an_error(tmp_path, content):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(ValueError, match=r"file\.pth holds"):
        load_weights(_tree(_heads()), tmp_path / "file.pth")


def test_values_take_the_dtype_of_the_model():
    model = _tree(_heads()).double()
    state = {name: value.half() for name, value in _random_state(model).items()}
    load_weights(model, {"model": state})
    weight = model.rpn.head.conv.weight
    assert weight.dtype == torch.float64
    assert torch.equal(weight, state["rpn.head.conv.weight"].double())


def test_the_table_is_logged_once_with_what_did_not_fit(caplog):
    model = _tree(_heads(9))
    state = _random_state(_tree(_heads(81)))
    del state["rpn.head.conv.bias"], state["rpn.head.conv.weight"]
    with caplog.at_level(logging.INFO):
        report = load_weights(model, {"model": state})
    assert [record.getMessage() for record in caplog.records] == [str(report)]
    table = str(report).splitlines()
    assert table[0] == "weights given as a dictionary (format maskrcnn_benchmark)"
    assert "  missing           2" in table
    assert "      rpn.head.conv.{weight, bias}" in table
    assert f"      {CLASSIFIER}.weight: (81, 4) in the file, (9, 4) in the model" in table


def test_one_layer_in_two_places_needs_its_values_once():
    """Heads that share their feature extractor are one module under two names."""
    shared = nn.Linear(2, 2)
    model = _tree(
        {
            "roi_heads.box.feature_extractor.head": shared,
            "roi_heads.mask.feature_extractor.head": shared,
        }
    )
    value = torch.rand(2, 2)
    box = {f"roi_heads.box.feature_extractor.head.{key}": value for key in ("weight",)}
    report = load_weights(model, {"model": box})
    assert report.missing == [
        f"roi_heads.{head}.feature_extractor.head.bias" for head in ("box", "mask")
    ]
    assert torch.equal(shared.weight, value)


def test_shared_extractor_stored_twice_fits_a_model_that_holds_it_once():
    model = _tree({"roi_heads.box.feature_extractor.head": nn.Linear(2, 2)})
    state = _random_state(model)
    copy = {name.replace("box", "mask"): value for name, value in state.items()}
    report = load_weights(model, {"model": state | copy})
    assert report.complete
    assert report.ignored == list(copy)
    copy["roi_heads.mask.feature_extractor.head.bias"] = torch.zeros(2)
    assert load_weights(model, {"model": state | copy}).unexpected == sorted(copy)


def _torchvision_norm(statistics: dict[str, torch.Tensor], eps: float) -> nn.Module:
    from torchvision.ops import FrozenBatchNorm2d as Theirs

    norm = Theirs(4, eps=eps)
    norm.load_state_dict(statistics)
    return norm


@pytest.mark.parametrize(("given", "expected"), [(None, 1e-5), (1e-3, 1e-3), (0.0, 0.0)])
def test_epsilon_of_torchvisions_norm_goes_into_the_variance(given, expected):
    keys = ("weight", "bias", "running_mean", "running_var")
    statistics = {key: torch.rand(4) * 1e-3 + 1e-4 for key in keys}
    model = _tree({"backbone.body.stem.bn1": FrozenBatchNorm2d(4)})
    state = {f"backbone.body.bn1.{key}": value for key, value in statistics.items()}
    state["backbone.body.bn1.num_batches_tracked"] = torch.tensor(7)
    state["roi_heads.box_head.fc6.bias"] = torch.ones(1)
    report = load_weights(model, state, norm_eps=given)
    assert report.unexpected == ["roi_heads.box.feature_extractor.fc6.bias"]
    assert report.ignored == ["backbone.body.stem.bn1.num_batches_tracked"]
    x = torch.randn(2, 4, 3, 3)
    # Both compute in float32; the order of their operations differs by a few roundings.
    torch.testing.assert_close(
        model.backbone.body.stem.bn1(x),
        _torchvision_norm(statistics, expected)(x),
        rtol=1e-5,
        atol=1e-6,
    )


def test_loading_our_own_file_adds_no_epsilon_again(tmp_path):
    model = _tree({"norm": FrozenBatchNorm2d(3)})
    variance = torch.rand(3)
    model.norm.running_var.copy_(variance)
    save_weights(model, tmp_path / "file.pth")
    model.norm.running_var.zero_()
    assert load_weights(model, tmp_path / "file.pth", strict=True).format == "maskrcnn_lib"
    assert torch.equal(model.norm.running_var, variance)


@pytest.mark.parametrize("place", ["", "backbone.", "model.backbone."])
def test_imagenet_body_finds_its_place(caffe2_blobs, place):
    body = ResNet(
        (3, 4, 6, 3),
        stem_out_channels=64,
        res2_out_channels=256,
        width_per_group=64,
        stride_in_1x1=True,
        norm=FrozenBatchNorm2d,
        freeze_at=0,
    )
    model = _tree({f"{place}body": body, "roi_heads.box.predictor.cls_score": nn.Linear(2, 2)})
    report = load_weights(
        model, {"blobs": {k: v.numpy() for k, v in caffe2_blobs("imagenet").items()}}
    )
    assert report.missing == [f"{CLASSIFIER}.{key}" for key in ("weight", "bias")]
    assert (report.unexpected, report.reinitialised) == ([], [])
    assert len(report.loaded) == len(body.state_dict())
    assert not model.get_submodule(f"{place}body").stem.bn1.weight.any()


def test_imagenet_stage_starts_every_head_that_is_a_copy_of_it():
    model = _tree(
        {
            "roi_heads.box.feature_extractor.head.layer4.0.conv1": nn.Conv2d(1, 1, 1, bias=False),
            "roi_heads.mask.feature_extractor.head.layer4.0.conv1": nn.Conv2d(1, 1, 1, bias=False),
        }
    )
    blobs = {"res2_0_branch2a_w": torch.ones(1), "res5_0_branch2a_w": torch.full((1, 1, 1, 1), 5.0)}
    report = load_weights(model, blobs)
    assert report.missing == []
    assert [value.item() for value in model.state_dict().values()] == [5.0, 5.0]


def test_imagenet_body_with_two_possible_places_is_refused():
    model = _tree({"one.stem.conv1": nn.Conv2d(1, 1, 1), "two.stem.conv1": nn.Conv2d(1, 1, 1)})
    blobs = {"conv1_w": torch.ones(1, 1, 1, 1), "res2_0_branch2a_w": torch.ones(1)}
    with pytest.raises(ValueError, match=r"could be any of .*one\.stem.*two\.stem"):
        load_weights(model, blobs)


def test_imagenet_name_is_matched_at_dots_alone():
    model = _tree({"other_stem.conv1": nn.Conv2d(1, 1, 1), "stem.conv1": nn.Conv2d(1, 1, 1)})
    blobs = {"conv1_w": torch.ones(1, 1, 1, 1), "res2_0_branch2a_w": torch.ones(1)}
    report = load_weights(model, blobs)
    assert report.loaded == ["stem.conv1.weight"]


def test_torchvision_classifier_fills_a_body():
    from torchvision.models.resnet import Bottleneck
    from torchvision.models.resnet import ResNet as Theirs

    source = Theirs(Bottleneck, [2, 1, 1, 1]).double().eval()
    for name, value in source.state_dict().items():
        if "running" in name:
            value.uniform_(0.1, 1.0)
    body = ResNet(
        (2, 1, 1, 1),
        stem_out_channels=64,
        res2_out_channels=256,
        width_per_group=64,
        stride_in_1x1=False,
        norm=FrozenBatchNorm2d,
        freeze_at=0,
    ).double()
    report = load_weights(body, source.state_dict())
    assert report.format == "torchvision_imagenet"
    assert (report.missing, report.unexpected) == ([], [])
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    theirs = source.maxpool(source.relu(source.bn1(source.conv1(x))))
    for layer in (source.layer1, source.layer2, source.layer3, source.layer4):
        theirs = layer(theirs)
    with torch.no_grad():
        ours = body(x)[-1]
    # float64 throughout: nothing but rounding may differ, and an epsilon left out shows at 1e-5.
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-9, atol=1e-9)


def test_class_names_of_torchvision_are_the_91_categories():
    model = _tree(_heads(91))
    state = {
        name.replace(".box.predictor", ".box_predictor"): value
        for name, value in _random_state(model).items()
    }
    state["roi_heads.box_head.fc6.bias"] = torch.ones(1)
    assert load_weights(model, state).class_names == coco_category_names()


def test_python_2_pickle_of_detectron_loads(python2_pickle):
    model = _tree({"roi_heads.box.predictor.cls_score": nn.Linear(2, 81)})
    weight = np.random.default_rng(0).random((81, 2), np.float32)
    path = python2_pickle(
        {
            "blobs": {
                "cls_score_w": weight,
                "cls_score_w_momentum": weight,
                "cls_score_b": weight[:, 0],
                "conv_rpn_fpn2_w": weight[:, 0],
            },
            "cfg": "MODEL: !!python/object/new:detectron.utils.collections.AttrDict {}",
        }
    )
    report = load_weights(model, path)
    assert report.format == "caffe2"
    assert report.ignored == ["cls_score_w_momentum"]
    assert report.unexpected == ["rpn.head.conv.weight"]
    assert report.class_names == coco_class_names()
    np.testing.assert_array_equal(
        model.state_dict()["roi_heads.box.predictor.cls_score.weight"], weight
    )
