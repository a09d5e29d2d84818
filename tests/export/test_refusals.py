"""What cannot be exported is refused at once, in words that say what to do."""

import pytest
import torch

from maskrcnn_lib.engine.inference import PACKAGED_MODEL, build_detector, choose_model
from maskrcnn_lib.export.decompositions import decompose
from maskrcnn_lib.export.files import export_detector
from maskrcnn_lib.layers import soft_nms_fixed
from maskrcnn_lib.tools.cli import main

pytest.importorskip("torchvision")


def packaged(*overrides):
    cfg, weights = choose_model(model=PACKAGED_MODEL, overrides=overrides)
    return build_detector(cfg, weights, pack=False)


def assert_refused(detector, folder, words):
    for kind in ("onnx", "pt2"):
        with pytest.raises(ValueError, match=words):
            export_detector(detector, folder / f"model.{kind}", kind=kind)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (("TEST.BBOX_AUG.ENABLED", True, "TEST.BBOX_AUG.H_FLIP", True), r"BBOX_AUG\.ENABLED False"),
        (("DTYPE", "bfloat16"), "DTYPE float32"),
        (("TEST.SOFT_NMS.ENABLED", True), r"TEST\.SOFT_NMS\.ENABLED False"),
        (("TEST.BBOX_VOTE.ENABLED", True), r"TEST\.BBOX_VOTE\.ENABLED False"),
    ],
)
def test_settings_name_the_key_that_helps(keys, words, tmp_path):
    assert_refused(packaged(*keys), tmp_path, words)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("maskrcnn_lib/rfcn_R_50_C5_1x", "R-FCN"),
        ("detectron/fast_rcnn_R-50-FPN_1x", r"MODEL\.LOAD_PROPOSALS"),
        ("rpn_R_50_FPN_1x", r"MODEL\.RPN_ONLY"),
    ],
)
def test_models_name_the_part_that_hinders(config, words, random_detector, tmp_path):
    assert_refused(random_detector(config), tmp_path, words)


def test_operators_without_a_counterpart_are_named():
    class Softening(torch.nn.Module):
        def forward(self, boxes, scores, labels):
            return soft_nms_fixed(boxes, scores, labels, method="linear", max_output=4)

    rows = torch.rand(1, 9, 4), torch.rand(1, 9), torch.ones(1, 9, dtype=torch.int64)
    with pytest.raises(ValueError, match="it needs maskrcnn::soft_nms_fixed,"):
        decompose(torch.export.export(Softening(), rows))


def test_unknown_ending_on_the_command_line(tmp_path, capsys):
    assert main(["export", "--model", PACKAGED_MODEL, "-o", str(tmp_path / "model.xyz")]) == 1
    assert "--format onnx|pt2" in capsys.readouterr().err


def test_a_refusal_on_the_command_line(tmp_path, capsys):
    command = ["export", "--model", PACKAGED_MODEL, "-o", str(tmp_path / "model.onnx")]
    assert main([*command, "TEST.SOFT_NMS.ENABLED", "True"]) == 1
    assert "TEST.SOFT_NMS.ENABLED False" in capsys.readouterr().err


def test_a_photo_to_check_with_is_looked_for_first(tmp_path, capsys):
    command = ["export", "--model", PACKAGED_MODEL, "-o", str(tmp_path / "model.onnx")]
    assert main([*command, "--check", str(tmp_path / "nowhere.jpg")]) == 1
    said = capsys.readouterr()
    assert "nowhere.jpg" in said.err and said.out == ""
    assert list(tmp_path.iterdir()) == []
