"""COCODataset: images, targets, and which images training leaves out."""

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn_lib.data.datasets import COCODataset

SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]


def annotation(number, image_id, **more):
    box = {"bbox": [10, 10, 20, 20], "segmentation": [SQUARE], "area": 400, "iscrowd": 0}
    return {"id": number, "image_id": image_id, "category_id": 7, **box, **more}


@pytest.fixture
def content():
    """Images 1 (two objects and a crowd), 2 (none), 3 (crowd only), 4 (a thin object)."""
    rle = {"size": [48, 64], "counts": [0, 48, 48 * 63]}
    thin = {"bbox": [5, 5, 1, 20], "segmentation": [[5, 5, 6, 5, 6, 25, 5, 25]]}
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in (3, 1, 2, 4)
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [
            annotation(1, 1),
            annotation(2, 1, category_id=3, segmentation=rle, bbox=[0, 0, 1, 48]),
            annotation(3, 1, iscrowd=1),
            annotation(4, 3, iscrowd=1),
            annotation(5, 4, **thin),
        ],
    }


@pytest.fixture
def write(tmp_path):
    """Writes annotations and the images that they name; returns the arguments of a data set."""

    def write(content, **options):
        for image in content["images"]:
            pixels = np.full((image["height"], image["width"], 3), image["id"], dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / image["file_name"])
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(content), **options)
        return path, tmp_path

    return write


def test_item_is_image_target_and_index(write, content):
    dataset = COCODataset(*write(content))
    image, target, index = dataset[0]
    assert (image.shape, image.dtype, int(image[0, 0, 0]), index) == ((48, 64, 3), np.uint8, 1, 0)
    assert target.size == (64, 48)
    assert target.bbox.tolist() == [[10, 10, 30, 30], [0, 0, 1, 48]]
    assert target.get_field("labels").tolist() == [2, 1]  # ids 7 and 3, numbered in order
    masks = target.get_field("masks").get_mask_tensor()
    assert masks.sum((1, 2)).tolist() == [400, 48]
    assert dataset.class_names == ["__background__", "dog", "cat"]
    assert dataset.ids == [1, 2, 3, 4]


def test_image_without_objects_has_a_target_of_none(write, content):
    target = COCODataset(*write(content)).target(1)
    assert len(target) == len(target.get_field("labels")) == len(target.get_field("masks")) == 0
    assert target.bbox.shape == (0, 4)
    assert target.get_field("labels").dtype == torch.int64


def test_training_leaves_out_images_without_objects_to_learn_from(write, content):
    assert COCODataset(*write(content), True).ids == [1]


def test_image_with_few_labelled_keypoints_is_left_out(write, content):
    points = [[5, 5, 2] * 12 + [0, 0, 0] * 5, [5, 5, 2] * 4 + [0, 0, 0] * 13]
    content["annotations"] = [annotation(i, i, keypoints=points[i - 1]) for i in (1, 2)]
    paths = write(content)
    assert COCODataset(*paths, True).ids == [1, 2]
    dataset = COCODataset(*paths, True, min_visible_keypoints=10)
    assert dataset.ids == [1]
    keypoints = dataset.target(0).get_field("keypoints")
    assert keypoints.keypoints.shape == (1, 17, 3)


def test_keypoints_have_the_skeleton_of_their_file(write, content):
    content["annotations"] = [annotation(i, i, keypoints=[5, 5, 2] * 3) for i in (1, 2)]
    names = ["head", "left_wing", "right_wing"]
    content["categories"][0] |= {"keypoints": names, "skeleton": [[1, 2], [1, 3]]}
    dataset = COCODataset(*write(content), True, min_visible_keypoints=10)
    assert dataset.ids == [1, 2]  # no object could have ten
    keypoints = dataset.target(0).get_field("keypoints")
    assert keypoints.NAMES == tuple(names)
    assert keypoints.FLIP_INDS == (0, 2, 1)
    assert keypoints.CONNECTIONS == ((0, 1), (0, 2))


def test_a_skeleton_that_joins_no_keypoints_is_dropped(write, content):
    content["annotations"] = [annotation(1, 1, keypoints=[5, 5, 2] * 3)]
    content["categories"][0] |= {"keypoints": ["a", "b", "c"], "skeleton": [[1, 4]]}
    dataset = COCODataset(*write(content))
    assert dataset.skeleton.connections == ()
    kinds = [finding.kind for finding in dataset.report.findings]
    assert kinds == ["skeleton that does not join keypoints"]


def test_objects_without_mask_take_the_masks_of_their_image_or_are_left_out(write, content):
    del content["annotations"][1]["segmentation"]
    paths = write(content)
    dataset = COCODataset(*paths)
    assert len(dataset.target(0)) == 2 and not dataset.target(0).has_field("masks")
    assert dataset.target(3).has_field("masks")
    strict = COCODataset(*paths, require_masks=True)
    assert len(strict.target(0)) == 1 and strict.target(0).has_field("masks")
    assert strict.report.counts() == {("dropped", "object without a mask, which is needed"): 1}


def test_masks_that_are_needed_and_not_there_are_an_error(write, content):
    for entry in content["annotations"]:
        del entry["segmentation"]
    with pytest.raises(ValueError, match="no object has a mask"):
        COCODataset(*write(content), require_masks=True)


def test_byte_order_mark_and_names_of_other_scripts_are_read(write, content):
    content["categories"][0]["name"] = "кошка"
    content["images"][0]["file_name"] = "写真.png"
    dataset = COCODataset(*write(content, encoding="utf-8-sig"))
    assert "кошка" in dataset.class_names
    assert dataset.read_image(2).shape == (48, 64, 3)


def test_image_of_another_size_is_an_error_that_says_both(write, content, tmp_path):
    dataset = COCODataset(*write(content))
    Image.new("RGB", (48, 64)).save(tmp_path / "1.png")
    with pytest.raises(ValueError, match=r"48 x 64 pixels.*states 64 x 48.*EXIF"):
        dataset[0]


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../b.png", "C:/b.png"])
def test_file_name_may_not_leave_the_directory(write, content, tmp_path, name):
    paths = write(content)
    content["images"][0]["file_name"] = name
    paths[0].write_text(json.dumps(content))
    with pytest.raises(ValueError, match="image 3: file_name leads out of the image directory"):
        COCODataset(*paths)


def test_missing_directory_and_file_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        COCODataset(tmp_path / "a.json", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"a\.json"):
        COCODataset(tmp_path / "a.json", tmp_path)


def test_content_in_memory_serves_like_a_file(write, content):
    path, root = write(content)
    memory, file = COCODataset(content, root), COCODataset(path, root)
    assert memory.content == file.content
    assert memory[0][1].bbox.equal(file[0][1].bbox)


def test_findings_are_logged_once(write, content, caplog):
    content["annotations"][0]["area"] = -1
    dataset = COCODataset(*write(content))
    for index in range(len(dataset)):
        dataset[index]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "area computed" in caplog.text


@pytest.mark.data
@pytest.mark.parametrize("split", ["train2017", "val2017"])
@pytest.mark.parametrize("kind", ["instances", "person_keypoints"])
def test_real_annotations_need_no_repair_and_stay_as_they_are(test_data, split, kind):
    path = test_data / "coco_mini" / "annotations" / f"{kind}_{split}.json"
    dataset = COCODataset(path, test_data / "coco_mini" / split)
    assert dataset.report.findings == []
    given = json.loads(path.read_text())
    by_id = {entry["id"]: entry for entry in given["annotations"]}
    assert {entry["id"]: entry for entry in dataset.content["annotations"]} == by_id
    assert dataset.content["images"] == sorted(given["images"], key=lambda image: image["id"])


@pytest.mark.data
def test_targets_agree_with_pycocotools(test_data):
    from pycocotools.coco import COCO

    path = test_data / "coco_mini" / "annotations" / "instances_val2017.json"
    dataset = COCODataset(path, test_data / "coco_mini" / "val2017")
    coco = COCO(str(path))
    for index in range(0, len(dataset), 10):
        target = dataset.target(index)
        entries = coco.loadAnns(coco.getAnnIds(dataset.ids[index], iscrowd=False))
        expected = [coco.annToMask(entry) for entry in entries]
        if expected:
            masks = target.get_field("masks").get_mask_tensor().numpy()
            assert np.array_equal(masks, np.stack(expected) > 0)
        ids = dataset.contiguous_category_id_to_json_id
        labels = [ids[label] for label in target.get_field("labels").tolist()]
        assert labels == [entry["category_id"] for entry in entries]


def test_loader_processes_get_few_bytes(write, content):
    entry = content["annotations"][0]
    content["annotations"] = [{**entry, "id": i} for i in range(1, 2001)]
    dataset = COCODataset(*write(content))
    text = json.dumps(content["annotations"], separators=(",", ":"))
    assert len(pickle.dumps(dataset)) < 1.1 * len(text) + 5000
    assert pickle.loads(pickle.dumps(dataset)).target(0).bbox.equal(dataset.target(0).bbox)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_json_knows_are_read(write, content, encoding):
    content["categories"][0]["name"] = "Kätzchen"
    path, root = write(content)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
    assert COCODataset(path, root).categories[7] == "Kätzchen"


def test_other_encoding_is_named_with_the_byte(write, content):
    content["categories"][0]["name"] = "Kätzchen"
    path, root = write(content)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="latin-1")
    with pytest.raises(
        ValueError, match=r"annotations\.json is not JSON in UTF-8 .byte \d+ is 0xe4"
    ):
        COCODataset(path, root)
