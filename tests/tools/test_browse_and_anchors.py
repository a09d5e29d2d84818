"""``maskrcnn browse`` and ``maskrcnn anchors`` on a small data set."""

import ast
import json
import shlex

import numpy as np
import pytest
from PIL import Image

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.tools.cli import main


@pytest.fixture
def photos(tmp_path):
    """Three grey images with two objects each, as a data set's name."""
    content = {"images": [], "annotations": [], "categories": [{"id": 3, "name": "cat"}]}
    boxes = [[10, 10, 40, 20], [60, 30, 20, 40]]
    for i in range(3):
        Image.fromarray(np.full((80, 120, 3), 128, np.uint8)).save(tmp_path / f"photo{i}.png")
        entry = {"id": i, "file_name": f"photo{i}.png", "width": 120, "height": 80}
        content["images"].append(entry)
        for k, (x, y, w, h) in enumerate(boxes):
            entry = {"id": 2 * i + k, "image_id": i, "category_id": 3, "bbox": [x, y, w, h]}
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            entry |= {"iscrowd": 0, "area": w * h, "segmentation": [corners]}
            content["annotations"].append(entry)
    (tmp_path / "a.json").write_text(json.dumps(content))
    return f"coco:{tmp_path / 'a.json'}:{tmp_path}"


def _browse(photos, folder, *keys, number=4):
    line = ["browse", photos, "--output", str(folder), "--number", str(number)]
    settings = ["SOLVER.IMS_PER_BATCH", "2", "INPUT.MIN_SIZE_TRAIN", "(160,)"]
    assert main([*line, *settings, *keys]) == 0
    return sorted(folder.iterdir())


def test_pictures_are_of_the_size_and_flip_that_a_model_sees(photos, tmp_path, capsys):
    mirrored = ("INPUT.HORIZONTAL_FLIP_PROB_TRAIN", "1.0")
    plain = _browse(photos, tmp_path / "plain", *mirrored[:1], "0.0")
    flipped = _browse(photos, tmp_path / "flipped", *mirrored)
    assert "4 pictures in" in capsys.readouterr().out
    assert [path.name[:10] for path in plain] == [f"000{i}_photo" for i in range(4)]
    assert [path.name for path in plain] == [path.name for path in flipped]
    for one, other in zip(plain, flipped, strict=True):
        image, mirror = (np.asarray(Image.open(path)).astype(int) for path in (one, other))
        assert image.shape == (160, 240, 3)
        # the left object, twice as large: from (20, 20) to (100, 60); mirrored from 140 to 220
        inside, outside = np.s_[35:55, 30:90], np.s_[35:55, 150:210]
        assert np.ptp(image[inside], axis=2).max() > 40
        assert np.ptp(mirror[outside], axis=2).max() > 40
        assert np.ptp(image[150:], axis=2).max() < 20  # nothing there


def test_fewer_pictures_than_a_batch_can_be_asked_for(photos, tmp_path, capsys):
    assert len(_browse(photos, tmp_path / "one", number=1)) == 1
    with pytest.raises(SystemExit, match="2"):
        main(["browse", photos, "--number", "0"])
    assert main(["browse"]) == 1
    assert "no training data" in capsys.readouterr().err


def test_anchors_of_a_data_set_are_keys_for_the_command_line(photos, capsys):
    keys = ["INPUT.MIN_SIZE_TEST", "80", "INPUT.MAX_SIZE_TEST", "200"]
    config = ["--config-file", "e2e_mask_rcnn_R_50_C4_1x"]
    assert main(["anchors", photos, *config, "--sizes", "1", "--ratios", "2", *keys]) == 0
    head, before, after, line = capsys.readouterr().out.splitlines()
    assert head == "6 objects" and before.startswith("the config's [32, 64")
    assert "mean overlap of the best 0.9" in after  # sides are whole pixels of boxes of 40 x 20
    given = shlex.split(line)
    assert ast.literal_eval(given[1]) == (28,)  # root of 800
    assert ast.literal_eval(given[3]) == (0.5, 2.0)
    rpn = get_cfg("e2e_mask_rcnn_R_50_C4_1x", given).MODEL.RPN
    assert (rpn.ANCHOR_SIZES, rpn.ASPECT_RATIOS) == ((28,), (0.5, 2.0))


def test_sizes_are_shared_out_to_the_levels_of_a_pyramid(test_data, capsys):
    mini = test_data / "coco_mini"
    name = f"coco:{mini / 'annotations' / 'instances_train2017.json'}:{mini / 'train2017'}"
    config = ["--config-file", "e2e_mask_rcnn_R_50_FPN_1x"]
    assert main(["anchors", name, *config]) == 0
    *_, before, after, line = capsys.readouterr().out.splitlines()
    overlaps = [float(text.split("best ")[1].split(";")[0]) for text in (before, after)]
    assert overlaps[0] < overlaps[1] < 1
    rpn = get_cfg(config[1], shlex.split(line)).MODEL.RPN
    assert [len(level) for level in rpn.ANCHOR_SIZES] == [1] * 5
    assert list(rpn.ANCHOR_SIZES) == sorted(rpn.ANCHOR_SIZES)
    assert main(["anchors", name, *config, "--sizes", "4"]) == 1
    assert "cannot be shared out to the 5 levels" in capsys.readouterr().err


def test_anchors_of_one_stage_models_are_written_as_their_keys(test_data, capsys):
    mini = test_data / "coco_mini"
    name = f"coco:{mini / 'annotations' / 'instances_train2017.json'}:{mini / 'train2017'}"
    for config, keys in (
        ("retinanet/retinanet_R-50-FPN_1x", ["ANCHOR_SIZES", "ASPECT_RATIOS"]),
        ("mmdet/yolof_r50-c5_8xb8-1x_coco", ["ANCHOR_SIZES"]),
    ):
        assert main(["anchors", name, "--config-file", config]) == 0
        *_, before, after, line = capsys.readouterr().out.splitlines()
        overlaps = [float(text.split("best ")[1].split(";")[0]) for text in (before, after)]
        assert overlaps[0] < overlaps[1] < 1
        given = shlex.split(line)
        assert [key.split(".")[-1] for key in given[::2]] == keys
        section = get_cfg(config, given).MODEL[given[0].split(".")[1]]
        assert [section[key] for key in keys] == [ast.literal_eval(text) for text in given[1::2]]


def test_the_octaves_of_retinanet_take_part_in_the_fit(photos, capsys):
    # objects of one size and two ratios, which the second of three sizes per level has
    keys = ["INPUT.MIN_SIZE_TEST", "80", "INPUT.MAX_SIZE_TEST", "200"]
    keys += ["MODEL.RETINANET.ANCHOR_SIZES", "(20,)", "MODEL.RETINANET.ANCHOR_STRIDES", "(8,)"]
    config = ["--config-file", "retinanet/retinanet_R-50-FPN_1x", "--ratios", "2"]
    assert main(["anchors", photos, *config, *keys]) == 0
    *_, after, line = capsys.readouterr().out.splitlines()
    (size,) = ast.literal_eval(shlex.split(line)[1])
    assert round(28.28 / size, 1) in (1.0, 1.3, 1.6)  # root of 800; 2 ** (0, 1/3 or 2/3)
    assert float(after.split("best ")[1].split(";")[0]) > 0.95


def test_anchors_that_a_model_cannot_have_are_refused(photos, capsys):
    yolof, retinanet = "mmdet/yolof_r50-c5_8xb8-1x_coco", "retinanet/retinanet_R-50-FPN_1x"
    for line in (
        ["--config-file", yolof, "--ratios", "2"],
        ["--config-file", retinanet, "--sizes", "10"],
    ):
        assert main(["anchors", photos, *line]) == 1
    assert main(["anchors"]) == 1
    errors = capsys.readouterr().err
    assert "square" in errors and "one size for each" in errors and "no data set" in errors
