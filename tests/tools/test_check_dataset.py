"""``maskrcnn check-dataset``: the report, the picture and the exit code."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.tools.check_dataset import check_dataset, format_check
from maskrcnn_lib.tools.cli import main


@pytest.fixture
def folder(tmp_path):
    """Images 1 and 2 with a cat and an annotation to repair; class dog is never used."""
    for i in (1, 2):
        Image.fromarray(np.full((30, 40, 3), 200, np.uint8)).save(tmp_path / f"{i}.png")
    entry = {"category_id": 1, "bbox": [2, 2, 9, 9], "iscrowd": 0}
    entry["segmentation"] = [[2, 2, 11, 2, 11, 11, 2, 11]]
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {**entry, "id": 1, "image_id": 1},
            {**entry, "id": 2, "image_id": 2, "bbox": None},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    return tmp_path


def run(folder, *more):
    command = ["check-dataset", "--json", str(folder / "a.json"), "--images", str(folder)]
    return main([*command, "--output", str(folder / "out"), *more])


def test_good_set_is_usable_and_described(folder, capsys):
    assert run(folder) == 0
    printed = capsys.readouterr().out
    assert "2 images (0 without objects), 2 objects (2 with a mask; 2 small" in printed
    assert "cat        2 in      2 images  ####" in printed
    assert "no object of: dog" in printed
    assert "box taken from the mask" in printed
    assert printed.splitlines()[-1] == "usable"
    with (folder / "out" / "annotations.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1][:3] == ["repaired", "box taken from the mask", "annotation 2"]


@pytest.mark.parametrize("lacks", ["annotations", "images"])
def test_set_without_objects_is_not_usable(folder, capsys, lacks):
    content = json.loads((folder / "a.json").read_text())
    content[lacks] = []
    (folder / "a.json").write_text(json.dumps(content))
    assert run(folder) == 1
    printed = capsys.readouterr().out
    assert "there is no object to learn from" in printed
    assert printed.splitlines()[-1] == "NOT usable as it is"


def test_verdict_counts_what_is_dropped(folder, capsys):
    content = json.loads((folder / "a.json").read_text())
    content["annotations"][0]["category_id"] = 9
    (folder / "a.json").write_text(json.dumps(content))
    assert run(folder) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("usable, without the 1 things")


def test_page_shows_the_objects(folder):
    run(folder)
    page = np.array(Image.open(folder / "out" / "examples.png"))
    # two cells of 480 x 360 side by side, with margins
    assert page.shape == (360 + 2 * 4, 2 * (480 + 4) + 4, 3)
    inside = page[4 + 7 * 12 : 4 + 10 * 12, 4 + 4 * 12 : 4 + 10 * 12]  # of the square
    assert (inside.mean((0, 1)) != 200).any()
    assert (page[300, 400] == 200).all()


@pytest.mark.parametrize("decode", [False, True])
def test_missing_damaged_and_misfit_images_are_named(folder, capsys, decode):
    (folder / "1.png").unlink()
    Image.new("RGB", (30, 40)).save(folder / "2.png")
    assert run(folder, *(["--decode"] if decode else [])) == 1
    printed = capsys.readouterr().out
    assert "2 images that cannot be used" in printed
    assert "1.png" in printed and "2.png" in printed
    assert printed.splitlines()[-1] == "NOT usable as it is"
    assert not (folder / "out" / "examples.png").exists()


def test_truncated_image_is_found_by_decoding(folder, capsys):
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "1.png")
    data = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(data[: len(data) // 2])
    assert run(folder) == 0
    assert run(folder, "--decode") == 1
    assert "1 images that cannot be used" in capsys.readouterr().out


def test_refused_annotations_are_told_in_full(folder, capsys):
    content = json.loads((folder / "a.json").read_text())
    content["images"][0]["file_name"] = "../1.png"
    (folder / "a.json").write_text(json.dumps(content))
    assert run(folder) == 1
    printed = capsys.readouterr().out
    assert "refused" in printed and "file_name leads out" in printed
    (folder / "a.json").write_text("{")
    assert run(folder) == 1
    assert "is not JSON" in capsys.readouterr().out


def test_sets_of_a_config_are_checked_one_by_one(folder, capsys):
    line = f"coco:{folder / 'a.json'}:{folder}"
    sets = ["DATASETS.TRAIN", f"('{line}',)", "DATASETS.TEST", f"('{line}',)"]
    assert main(["check-dataset", "--output", str(folder / "out"), *sets]) == 0
    assert capsys.readouterr().out.count("== ") == 1


def test_nothing_to_check_is_an_error(folder, capsys):
    assert main(["check-dataset"]) == 1
    assert "--json and --images" in capsys.readouterr().err
    assert main(["check-dataset", "--json", "a.json"]) == 1
    assert "needed together" in capsys.readouterr().err


def test_set_of_a_user_is_checked_through_its_items(tmp_path):
    path = tmp_path / "catalog.py"
    path.write_text(
        "import numpy as np\n"
        "import torch\n"
        "from maskrcnn_lib.structures.bounding_box import BoxList\n"
        "class Mine:\n"
        "    categories = {1: 'cat'}\n"
        "    def __len__(self):\n"
        "        return 3\n"
        "    def get_img_info(self, index):\n"
        "        return {'height': 20, 'width': 30}\n"
        "    def __getitem__(self, index):\n"
        "        boxes = [[1, 1, 9, 9], [5, 5, 40, 9], [5, 5, 5, 9]][index]\n"
        "        target = BoxList(torch.tensor([boxes]), (30, 20))\n"
        "        target.add_field('labels', torch.tensor([index]))\n"
        "        return np.zeros((20, 30, 3), np.uint8), target, index\n"
        "class DatasetCatalog:\n"
        "    @staticmethod\n"
        "    def get(name):\n"
        "        return {'factory': Mine, 'args': {}}\n"
    )
    cfg = get_cfg(None, ["PATHS_CATALOG", str(path)])
    check = check_dataset(cfg, "mine", tmp_path / "out")
    assert not check.usable and check.report is None
    assert check.statistics.problems == [
        "image 0: label 0 is below 1 (0 is the background)",
        "image 1: a box reaches out of the image",
        "image 2: box 0, [5.0, 5.0, 5.0, 9.0] (x1, y1, x2, y2), is not finite or has no area",
        "image 2: label 2 is beyond the 1 classes",
    ]
    assert "targets that cannot be trained on" in format_check(check)


@pytest.mark.data
def test_real_set_is_usable(test_data, tmp_path, capsys):
    balloon = test_data / "balloon"
    line = f"coco:{balloon / 'instances_train.json'}:{balloon / 'train'}"
    assert main(["check-dataset", line, "--output", str(tmp_path), "--examples", "2"]) == 0
    assert "61 images (0 without objects), 255 objects (255 with a mask" in capsys.readouterr().out
