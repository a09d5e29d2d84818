"""YOLO's text files, boxes and polygons, in the layouts in which they come."""

import numpy as np
import pytest
from PIL import Image

from maskrcnn_lib.data.converters.yolo import convert_yolo
from maskrcnn_lib.data.datasets import COCODataset

BOX = "1 0.5 0.5 0.2 0.4"
POLYGON = "0 0.1 0.1 0.5 0.1 0.5 0.5"


@pytest.fixture
def root(tmp_path):
    """images/train with a (box and polygon), b (empty file) and c (no file)."""
    for folder in ("images/train", "labels/train"):
        (tmp_path / folder).mkdir(parents=True)
    for stem in "abc":
        pixels = np.zeros((40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / "train" / f"{stem}.jpg")
    (tmp_path / "labels" / "train" / "a.txt").write_text(f"{BOX}\n\n{POLYGON}\n")
    (tmp_path / "labels" / "train" / "b.txt").write_text("")
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images/train\nnames: [cat, dog]\n")
    return tmp_path


def rows(root, text):
    (root / "labels" / "train" / "a.txt").write_text(text)
    return convert_yolo(root)


def test_boxes_and_polygons_mix(root):
    content = convert_yolo(root / "data.yaml").content
    box, polygon = content["annotations"]
    assert box["bbox"] == pytest.approx([20, 12, 10, 16]) and "segmentation" not in box
    assert polygon["segmentation"][0] == pytest.approx([5, 4, 25, 4, 25, 20])
    assert polygon["bbox"] == pytest.approx([5, 4, 20, 16])
    assert [box["category_id"], polygon["category_id"]] == [2, 1]
    assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "b.jpg", "c.jpg"]
    assert {a["image_id"] for a in content["annotations"]} == {1}


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("2 0.5 0.5 0.2 0.4", "class that is not 0 to 1"),
        ("0.5 0.5 0.5 0.2 0.4", "class that is not 0 to 1"),
        ("-1 0.5 0.5 0.2 0.4", "class that is not 0 to 1"),
        ("0 0.5 0.5 0.2", "row that is neither a box nor a polygon"),
        ("0 0.5 0.5 0.2 0.1 0.2", "row that is neither a box nor a polygon"),
        ("0 0.5 0.5 1.2 0.4", "coordinate outside 0 to 1"),
        ("0 50 50 20 40", "coordinate outside 0 to 1"),
        ("0 nan 0.5 0.2 0.4", "row with a number that is not finite"),
        ("cat 0.5 0.5 0.2 0.4", "row that is not numbers"),
        (BOX, "row listed twice"),
    ],
)
def test_wrong_rows_are_left_out_and_counted(root, row, kind):
    converted = rows(root, f"{BOX}\n{row}\n")
    assert len(converted.content["annotations"]) == 1
    assert converted.report.counts() == {("dropped", kind): 1}


@pytest.mark.parametrize(
    ("shape", "points"), [("[4, 3]", "0.1 0.2 2 0.3 0.4 1 0 0 0 1 1 2"), ("[2, 2]", "0.1 0.2 0 0")]
)
def test_boxes_with_key_points_are_no_polygons(root, shape, points):
    with (root / "data.yaml").open("a") as file:
        file.write(f"kpt_shape: {shape}\n")
    converted = rows(root, f"{BOX} {points}\n{POLYGON}\n")
    assert converted.report.counts() == {
        ("dropped", "row of another length than kpt_shape says"): 1
    }
    (found,) = converted.content["annotations"]
    assert found["bbox"] == pytest.approx([20, 12, 10, 16]) and "segmentation" not in found
    assert found["keypoints"][:3] == pytest.approx([5, 8, 2])
    dataset = COCODataset(converted.content, converted.image_root)
    assert dataset.keypoint_count == int(shape[1])
    labelled = dataset.target(0).get_field("keypoints").keypoints[0, :, 2]
    assert labelled.tolist() == ([2, 1, 0, 2] if shape == "[4, 3]" else [2, 0])


def test_a_shape_of_key_points_that_is_none_is_refused(root):
    with (root / "data.yaml").open("a") as file:
        file.write("kpt_shape: 17\n")
    with pytest.raises(ValueError, match="kpt_shape has to be"):
        convert_yolo(root)


def test_coordinates_a_percent_outside_are_moved_in(root):
    converted = rows(root, "0 -0.005 0.1 1.009 0.1 0.5 0.5")
    assert converted.content["annotations"][0]["segmentation"][0][:4] == [0, 4, 50, 4]
    assert converted.report.findings == []


@pytest.mark.parametrize(
    "names", ["names:\n  0: cat\n  1: dog\n", "names: [cat, dog]\nnc: 2\n", "names: ['cat', dog]\n"]
)
@pytest.mark.parametrize("train", ["images/train", "[images/train]", "../images/train", "list.txt"])
def test_usual_ways_to_write_the_yaml_are_read(root, names, train):
    (root / "list.txt").write_text("".join(f"images/train/{stem}.jpg\n" for stem in "abc"))
    (root / "data.yaml").write_text(f"train: {train}\n{names}")
    converted = convert_yolo(root)
    assert [c["name"] for c in converted.content["categories"]] == ["cat", "dog"]
    assert len(converted.content["images"]) == 3
    names = [image["file_name"] for image in converted.content["images"]]
    assert all((converted.image_root / name).is_file() for name in names)
    assert len(converted.content["annotations"]) == 2


def test_directory_without_yaml_takes_its_names_from_a_list(root):
    (root / "data.yaml").unlink()
    with pytest.raises(ValueError, match=r"class names .* unknown.*--names"):
        convert_yolo(root)
    (root / "classes.txt").write_text("cat\ndog\n")
    assert len(convert_yolo(root).content["annotations"]) == 2
    named = convert_yolo(root, class_names=["a", "b", "c"], image_dir=root / "images" / "train")
    assert [c["name"] for c in named.content["categories"]] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "no keys"),
        ("a: [", "not YAML"),
        ("train: images/train\nnames: {0: cat, 2: dog}\n", "numbered 0 to 1"),
        ("train: images/train\nnames: [cat, cat]\n", "differ"),
        ("val: images/train\nnames: [cat]\n", "no split 'train'; there are val"),
    ],
)
def test_wrong_yaml_is_an_error(root, text, message):
    (root / "data.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        convert_yolo(root)


def test_yaml_runs_no_code(root):
    (root / "data.yaml").write_text("names: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ValueError, match="not YAML"):
        convert_yolo(root)


def test_missing_directories_are_named(root, tmp_path):
    (root / "data.yaml").write_text("train: nowhere\nnames: [cat]\n")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        convert_yolo(root)
    with pytest.raises(FileNotFoundError, match="away"):
        convert_yolo(tmp_path / "away")
