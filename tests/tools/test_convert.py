"""``maskrcnn convert``: from another format to a file that a data set reads."""

import json

import numpy as np
import pytest
from PIL import Image

from maskrcnn_lib.data.datasets import COCODataset
from maskrcnn_lib.tools import convert as module
from maskrcnn_lib.tools.cli import main


@pytest.fixture
def source(tmp_path):
    """A YOLO set with one good and one wrong row."""
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n7 0.5 0.5 0.2 0.2\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    return tmp_path


def test_written_file_is_a_valid_data_set(source, tmp_path, capsys):
    target, report = tmp_path / "new" / "out.json", tmp_path / "report.csv"
    command = ["convert", "yolo", str(source), "-o", str(target), "--report", str(report)]
    assert main(command) == 0
    dataset = COCODataset(target, source)
    assert dataset.report.findings == []
    assert dataset.class_names == ["__background__", "cat"]
    assert len(dataset[0][1]) == 1
    printed = capsys.readouterr().out
    assert "1 images, 1 objects, 1 classes (cat)" in printed
    assert f"coco:{target}:{source}" in printed
    assert "class that is not 0 to 0" in report.read_text()
    assert [path.name for path in target.parent.iterdir()] == ["out.json"]


def test_class_names_can_be_given(source, tmp_path):
    target = tmp_path / "out.json"
    command = ["convert", "yolo", str(source), "-o", str(target), "--names", "a, b,c,d,e,f,g,h"]
    assert main(command) == 0
    content = json.loads(target.read_text())
    assert [c["name"] for c in content["categories"]] == list("abcdefgh")
    assert [a["category_id"] for a in content["annotations"]] == [1, 8]


def test_option_of_another_format_is_an_error(source, tmp_path, capsys):
    command = ["convert", "yolo", str(source), "-o", str(tmp_path / "out.json"), "--mode", "poly"]
    assert main(command) == 1
    assert "format yolo has no option mode" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_output_has_to_be_json_and_the_format_known(source, tmp_path):
    with pytest.raises(ValueError, match=r"must be a \.json file"):
        module.convert("yolo", source, tmp_path / "out.txt")
    with pytest.raises(ValueError, match=r"'xyz'; choose from voc, via"):
        module.convert("xyz", source, tmp_path / "out.json")


@pytest.mark.parametrize("kind", module.FORMATS)
def test_every_format_names_a_missing_source(kind, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        module.convert(kind, tmp_path / "nowhere", tmp_path / "out.json")
