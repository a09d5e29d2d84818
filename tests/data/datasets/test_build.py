"""From config to data sets, and the check of the number of classes."""

import json
from types import MappingProxyType

import numpy as np
import pytest
from PIL import Image

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.data.datasets import (
    COCODataset,
    ConcatDataset,
    build_dataset,
    build_train_dataset,
    check_num_classes,
    write_reports,
)


@pytest.fixture
def line(tmp_path):
    """Makes a set of two images, the second without objects; returns its one-line name."""

    def make(name, classes, of_classes=MappingProxyType({}), **annotation):
        folder = tmp_path / name
        folder.mkdir()
        for i in (1, 2):
            Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(folder / f"{i}.png")
        entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 9, 9], "area": 81}
        entry |= {"iscrowd": 0, "segmentation": [[2, 2, 11, 2, 11, 11, 2, 11]], **annotation}
        images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2)]
        categories = [{"id": i, "name": c, **of_classes} for i, c in enumerate(classes, start=1)]
        content = {"images": images, "categories": categories, "annotations": [entry]}
        (folder / "a.json").write_text(json.dumps(content))
        return f"coco:{folder / 'a.json'}:{folder}"

    return make


def config(*overrides):
    return get_cfg(None, ["MODEL.ROI_BOX_HEAD.NUM_CLASSES", 2, *overrides])


def test_training_leaves_out_empty_images_unless_they_are_wanted(line):
    name = line("cats", ["cat"])
    assert len(build_dataset(config(), name, is_train=True)) == 1
    assert len(build_dataset(config("DATALOADER.KEEP_EMPTY", True), name, is_train=True)) == 2
    assert len(build_dataset(config(), name)) == 2


def test_mask_training_needs_masks(line):
    name = line("cats", ["cat"], segmentation=[])
    assert len(build_dataset(config(), name, is_train=True)) == 1
    with pytest.raises(ValueError, match="no object has a mask"):
        build_dataset(config("MODEL.MASK_ON", True), name, is_train=True)


def test_one_name_gives_the_set_and_several_are_joined(line):
    names = [line("cats", ["cat"]), line("more", ["cat"])]
    single = build_train_dataset(config("DATASETS.TRAIN", (names[0],)))
    assert isinstance(single, COCODataset)
    joined = build_train_dataset(config("DATASETS.TRAIN", tuple(names)))
    assert isinstance(joined, ConcatDataset) and len(joined) == 2


def test_disagreeing_number_of_classes_is_an_error_with_both_numbers(line):
    cfg = config("DATASETS.TRAIN", (line("pets", ["cat", "dog"]),))
    message = r"NUM_CLASSES is 2, .* 2 classes \(cat, dog\).* makes 3: set .*NUM_CLASSES 3"
    with pytest.raises(ValueError, match=message):
        build_train_dataset(cfg)
    cfg.MODEL.ROI_BOX_HEAD.NUM_CLASSES = 3
    assert len(build_train_dataset(cfg)) == 1
    retina = ["MODEL.RETINANET_ON", True, "MODEL.RPN_ONLY", True, "MODEL.RETINANET.NUM_CLASSES", 5]
    with pytest.raises(ValueError, match=r"RETINANET\.NUM_CLASSES is 5"):
        check_num_classes(config(*retina), build_dataset(cfg, cfg.DATASETS.TRAIN[0]))


def test_disagreeing_number_of_keypoints_is_an_error(line):
    name = line("cats", ["cat"], keypoints=[5, 5, 2] * 4)
    cfg = config("MODEL.KEYPOINT_ON", True)
    with pytest.raises(ValueError, match=r"KEYPOINT_HEAD\.NUM_CLASSES is 17.* have 4 keypoints"):
        check_num_classes(cfg, build_dataset(cfg, name))


def test_parts_of_one_training_have_the_same_keypoints_in_the_same_order(line):
    ears, points = {"keypoints": ["left ear", "right ear"], "skeleton": [[1, 2]]}, [5, 5, 2] * 2
    turned = {"keypoints": ears["keypoints"][::-1]}
    names = [
        line("boxes", ["cat"]),
        line("ears", ["cat"], ears, keypoints=points),
        line("more", ["cat"], {**ears, "skeleton": []}, keypoints=points),
        line("turned", ["cat"], turned, keypoints=points),
    ]
    boxes, *parts = (build_dataset(config(), name) for name in names)
    joined = ConcatDataset(parts[:2])
    assert joined.skeleton.names == ("left ear", "right ear")
    assert joined.skeleton.connections == ((0, 1),)
    assert ConcatDataset([boxes]).skeleton is None
    cfg = config("MODEL.KEYPOINT_ON", True, "MODEL.ROI_KEYPOINT_HEAD.NUM_CLASSES", 2)
    check_num_classes(cfg, joined)
    message = "keypoints left ear, right ear, but right ear, left ear in .*turned"
    with pytest.raises(ValueError, match=message):
        check_num_classes(cfg, ConcatDataset(parts))
    with pytest.raises(ValueError, match=r"have 0 keypoints per object in .*boxes"):
        check_num_classes(cfg, ConcatDataset([*parts[:2], boxes]))
    check_num_classes(config(), ConcatDataset([boxes, *parts]))  # boxes do not mind


def test_findings_of_each_part_are_written_to_a_file(line, tmp_path):
    names = [line("good", ["cat"]), line("bad", ["cat"], area=-1)]
    dataset = build_train_dataset(config("DATASETS.TRAIN", tuple(names)))
    assert write_reports(dataset, tmp_path) == [tmp_path / "annotations_1.csv"]
    assert "area computed" in (tmp_path / "annotations_1.csv").read_text()
    assert write_reports([1, 2], tmp_path) == []


def test_set_of_a_user_that_names_no_classes_is_not_checked():
    check_num_classes(config(), [1, 2, 3])
    assert not hasattr([1, 2, 3], "categories")


def test_no_training_data_is_an_error_that_says_how():
    with pytest.raises(ValueError, match=r'"coco:annotations\.json:images_dir"'):
        build_train_dataset(config())


def test_nothing_left_to_learn_from_is_an_error(line):
    cfg = config("DATASETS.TRAIN", (line("crowds", ["cat"], iscrowd=1),))
    with pytest.raises(ValueError, match="no image with objects"):
        build_train_dataset(cfg)


def test_catalog_of_a_user_gives_a_class_of_its_own(tmp_path):
    path = tmp_path / "catalog.py"
    path.write_text(
        "class Mine:\n"
        "    def __init__(self, count):\n"
        "        self.count = count\n"
        "    def __len__(self):\n"
        "        return self.count\n"
        "class DatasetCatalog:\n"
        "    @staticmethod\n"
        "    def get(name):\n"
        "        factory = Mine if name == 'mine' else 'YourDataset'\n"
        "        return {'factory': factory, 'args': {'count': 3}}\n"
    )
    cfg = config("PATHS_CATALOG", str(path))
    assert len(build_dataset(cfg, "mine", is_train=True)) == 3
    with pytest.raises(KeyError, match=r"YourDataset.*COCODataset"):
        build_dataset(cfg, "yours")


def test_loaded_proposals_need_a_file_for_each_set(line):
    cfg = config("MODEL.LOAD_PROPOSALS", True, "DATASETS.TEST", (line("cats", ["cat"]),))
    with pytest.raises(ValueError, match="PROPOSAL_FILES_TEST names no file for coco:"):
        build_dataset(cfg, cfg.DATASETS.TEST[0])
