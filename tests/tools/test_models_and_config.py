"""``maskrcnn models`` and ``maskrcnn config``."""

import pytest
import yaml

from maskrcnn_lib.config import get_cfg, list_configs
from maskrcnn_lib.config.paths_catalog import ModelCatalog
from maskrcnn_lib.tools import cli


def _lines(capsys, *arguments):
    assert cli.main(["models", *arguments]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_every_config_and_all_weights_are_listed(capsys):
    header, *lines = _lines(capsys)
    assert header == ["config", "box", "mask", "keyp.", "prop.", "weights", "file"]
    words = {word for line in lines for word in line}
    assert set(list_configs()) <= words
    assert set(ModelCatalog.names()) <= words


def test_words_choose_lines_whatever_their_case(capsys):
    (_, line) = _lines(capsys, "Torchvision/", "MASKRCNN_resnet50", "bf2d")
    name = "torchvision/maskrcnn_resnet50_fpn"
    file_name = "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"
    assert line == [name, "37.9", "34.6", name, file_name, "(download)"]


def test_figures_stand_below_their_task(capsys):
    assert cli.main(["models", "37697547"]) == 0
    header, line = capsys.readouterr().out.splitlines()
    for task, value in (("box", "53.6"), ("keyp.", "64.2")):
        end = header.index(task) + len(task)
        assert line[:end].endswith(value)


def test_weights_without_config_say_so(capsys):
    _, line = _lines(capsys, "X-152-32x8d-IN5k.pkl")
    assert line[:3] == ["(no", "config", "here)"]


def test_words_that_no_line_has_are_an_error(capsys):
    assert cli.main(["models", "yolov99"]) == 1
    assert "yolov99" in capsys.readouterr().out


def test_printed_config_is_the_same_config(capsys, tmp_path):
    name = "torchvision/maskrcnn_resnet50_fpn"
    assert cli.main(["config", name, "MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "7"]) == 0
    path = tmp_path / "mine.yaml"
    path.write_text(capsys.readouterr().out)
    assert get_cfg(path) == get_cfg(name, ["MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", 7])


@pytest.mark.parametrize("name", ["e2e_mask_rcnn_R_50_C4_1x", "d2go/mask_rcnn_fbnetv3a_C4"])
def test_differences_are_the_config_and_no_key_of_the_defaults(capsys, tmp_path, name):
    assert cli.main(["config", name, "--diff"]) == 0
    path = tmp_path / "mine.yaml"
    path.write_text(capsys.readouterr().out)
    assert get_cfg(path) == get_cfg(name)
    assert "DTYPE" not in yaml.safe_load(path.read_text())


def test_defaults_differ_in_nothing(capsys):
    assert cli.main(["config", "--diff"]) == 0
    assert capsys.readouterr().out == ""


def test_unknown_config_is_an_error_of_one_line(capsys):
    assert cli.main(["config", "e2e_mask_rcnn_R_50_C5_1x"]) == 1
    assert "did you mean" in capsys.readouterr().err
