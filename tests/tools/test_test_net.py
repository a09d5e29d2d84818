"""``maskrcnn test`` gives the average precision that the models' authors' graphs give."""

import json

import pytest

from maskrcnn_lib import get_cfg
from maskrcnn_lib.tools.cli import main

# Float models on the 206 images of the subset, in points; measured with another implementation
# under COCO's exact protocol.
EXPECTED = {
    "mask_rcnn_fbnetv3a_C4": {
        "bbox": {"AP": 25.9, "AP50": 39.3, "AP75": 28.9},
        "segm": {"AP": 24.0, "AP50": 38.6, "AP75": 26.2},
    },
    "faster_rcnn_fbnetv3a_C4": {"bbox": {"AP": 24.5, "AP50": 38.4, "AP75": 26.3}},
}


@pytest.fixture
def weights(test_data, monkeypatch):
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(test_data / "weights"))


@pytest.mark.parametrize("name", list(EXPECTED))
def test_published_models_reach_their_average_precision(name, weights, test_data, tmp_path, capsys):
    mini = test_data / "coco_mini"
    arguments = ["--test-json", str(mini / "annotations" / "instances_val2017.json")]
    arguments += ["--test-images", str(mini / "val2017"), "--output", str(tmp_path)]
    assert main(["test", "--config-file", f"d2go/{name}", *arguments]) == 0
    folder = tmp_path / "instances_val2017"
    scores = json.loads((folder / "coco_results.json").read_text())
    assert set(scores) == set(EXPECTED[name])
    for kind, metrics in EXPECTED[name].items():
        assert (folder / f"{kind}.json").is_file()
        for metric, expected in metrics.items():
            tolerance = 0.3 if metric == "AP" else 0.6  # single thresholds vary more
            assert 100 * scores[kind][metric] == pytest.approx(expected, abs=tolerance)
    assert len((folder / "per_class.csv").read_text().splitlines()) == 81
    assert get_cfg(tmp_path / "config.yaml") == get_cfg(f"d2go/{name}")
    printed = capsys.readouterr().out
    assert "toothbrush" in printed and "206 images" in printed


def test_annotations_without_images_are_refused(weights, capsys):
    command = ["test", "--config-file", "d2go/mask_rcnn_fbnetv3a_C4", "--test-json", "a.json"]
    assert main(command) == 1
    assert "--test-images" in capsys.readouterr().err
