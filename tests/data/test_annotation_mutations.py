"""Malformed annotation files: each is a clear error or a counted repair, and no process dies."""

import copy
import json
import random

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from maskrcnn_lib.data.annotation_report import AnnotationError
from maskrcnn_lib.data.datasets import COCODataset
from maskrcnn_lib.evaluation.coco_eval import evaluate_coco

COUNT = 1000
_WIDTH, _HEIGHT = 40, 30


def _valid():
    points = [12, 8, 2, 5, 6, 1]
    square = [2.5, 2.5, 20.0, 2.5, 20.0, 20.0, 2.5, 20.0]
    rle = {"size": [_HEIGHT, _WIDTH], "counts": [30, 60, 1110]}
    counts = coco_mask.frPyObjects(rle, _HEIGHT, _WIDTH)["counts"].decode()
    compressed = {"size": [_HEIGHT, _WIDTH], "counts": counts}
    shapes = [[square], [square, [25, 5, 35, 5, 30, 25]], rle, compressed, None]
    boxes = [[2.5, 2.5, 17.5, 17.5], [2, 2, 33, 23], [1, 0, 2, 30], [1, 0, 2, 30], [1, 1, 9, 9]]
    annotations = []
    for number in range(10):
        kind = number % 5
        entry = {"id": number + 1, "image_id": number % 3 + 1, "category_id": 3 + number % 2}
        entry |= {"bbox": boxes[kind], "area": 100.0, "iscrowd": int(number == 7)}
        if shapes[kind] is not None:
            entry["segmentation"] = shapes[kind]
        if number % 2:
            entry |= {"keypoints": points, "num_keypoints": 2}
        annotations.append(copy.deepcopy(entry))
    return {
        "info": {"year": 2020},
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": _WIDTH, "height": _HEIGHT}
            for i in (1, 2, 3)
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}],
        "annotations": annotations,
    }


def _mutated_file(mutate, seed):
    """Text of an annotation file with one to four faults."""
    data = json.dumps(mutate(_valid(), seed)).encode()
    draw = random.Random(seed)
    if seed % 10 == 0:  # also faults that JSON itself does not survive
        at = draw.randrange(len(data))
        fault = draw.choice([b"", b"\x00", b"\xff", b"[" * 5000, b"9" * 5000, b"}", b'"'])
        data = data[:at] + fault + data[at + draw.randint(0, 3) :]
    if seed % 97 == 0:
        data = data[: draw.randrange(len(data))]
    return data


@pytest.fixture
def images(tmp_path):
    for name in "123":
        Image.fromarray(np.zeros((_HEIGHT, _WIDTH, 3), np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


def _use(dataset):
    """Everything that training and evaluation do with annotations."""
    for index in range(len(dataset)):
        target = dataset.target(index)
        width, height = target.size
        boxes = target.bbox
        assert boxes.isfinite().all()
        assert (boxes >= 0).all() and (boxes[:, ::2] <= width).all()
        assert (boxes[:, 1::2] <= height).all() and (boxes[:, 2:] > boxes[:, :2]).all()
        labels = target.get_field("labels")
        assert ((labels >= 1) & (labels < len(dataset.class_names))).all()
        if target.has_field("masks"):
            assert len(target.get_field("masks")) == len(target)
            if width * height < 10**6:
                target.get_field("masks").get_mask_tensor()
        if target.has_field("keypoints"):
            assert target.get_field("keypoints").keypoints.isfinite().all()


def _evaluate(dataset):
    content = dataset.content
    found = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 1}
        for a in content["annotations"]
    ]
    evaluate_coco(content, found, "bbox", backend="pycocotools")
    masked = [a for a in content["annotations"] if "segmentation" in a]
    if all(image["width"] * image["height"] < 10**6 for image in content["images"]):
        evaluate_coco({**content, "annotations": masked}, [], "segm", backend="pycocotools")


def test_valid_file_has_no_findings(images):
    dataset = COCODataset(_valid(), images)
    assert dataset.report.findings == []
    assert sum(len(dataset.target(i)) for i in range(3)) == 9
    _use(dataset)


def test_malformed_files_are_refused_or_repaired_and_never_kill_the_process(images, mutate):
    path = images / "annotations.json"
    outcomes = {"refused": 0, "repaired": 0, "harmless": 0}
    for seed in range(COUNT):
        path.write_bytes(_mutated_file(mutate, seed))
        try:
            dataset = COCODataset(path, images)
        except AnnotationError as error:
            assert error.report.count("refused") and str(path) in str(error)
            outcomes["refused"] += 1
            continue
        except ValueError as error:
            assert str(path) in str(error)
            outcomes["refused"] += 1
            continue
        _use(dataset)
        if seed % 5 == 0:
            _evaluate(dataset)
        dataset.report.write(images / "report.csv")
        outcomes["repaired" if dataset.report.findings else "harmless"] += 1
    # a fault in a field that nobody reads is harmless; most are not
    assert outcomes["refused"] > COUNT // 10
    assert outcomes["repaired"] > COUNT // 3
