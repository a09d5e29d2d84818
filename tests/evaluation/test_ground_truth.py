"""Any data set's annotations in COCO's form."""

import numpy as np
import pytest
import torch

from maskrcnn_lib.data.datasets import COCODataset
from maskrcnn_lib.evaluation.coco_eval import evaluate_coco
from maskrcnn_lib.evaluation.ground_truth import coco_content, image_id
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask


class OwnDataset:
    """What a user may write: no base class, no more methods than needed."""

    def __init__(self, categories=None):
        if categories:
            self.categories = categories

    def __len__(self):
        return 3

    def __getitem__(self, index):
        count = 2 - index  # 2, 1 and 0 objects
        boxes = torch.tensor([[2.0, 3.0, 12.0, 9.0], [5.0, 5.0, 9.0, 15.0]])[:count]
        target = BoxList(boxes, (20, 16))
        target.add_field("labels", torch.tensor([1, 2])[:count])
        polygons = [[[2, 3, 12, 3, 12, 9, 2, 9]], [[5, 5, 9, 5, 9, 15, 5, 15]]][:count]
        target.add_field("masks", SegmentationMask(polygons, (20, 16)))
        return np.zeros((16, 20, 3), np.uint8), target, index

    def get_img_info(self, index):
        return {"height": 16, "width": 20}


def _perfect(content, iou_type):
    keys = ("image_id", "category_id", "bbox" if iou_type == "bbox" else "segmentation")
    return [{**{k: a[k] for k in keys}, "score": 0.9} for a in content["annotations"]]


def test_perfect_results_score_one_on_a_data_set_of_ones_own():
    content = coco_content(OwnDataset({7: "cat", 9: "dog"}))
    assert [a["category_id"] for a in content["annotations"]] == [7, 9, 7]
    assert [a["area"] for a in content["annotations"]] == [60.0, 40.0, 60.0]
    assert [image["id"] for image in content["images"]] == [0, 1, 2]
    for kind in ("bbox", "segm"):
        scores = evaluate_coco(content, _perfect(content, kind), kind)
        assert scores.metrics["AP"] == pytest.approx(1.0)
        assert scores.per_class == pytest.approx({"cat": 1.0, "dog": 1.0})


def test_classes_without_names_get_their_numbers():
    content = coco_content(OwnDataset())
    assert content["categories"] == [{"id": 1, "name": "class 1"}, {"id": 2, "name": "class 2"}]


def test_content_that_is_there_is_taken(tmp_path):
    content = {
        "images": [{"id": 5, "width": 4, "height": 4, "file_name": "a.png"}],
        "annotations": [],
        "categories": [{"id": 1, "name": "x"}],
    }
    dataset = COCODataset(content, tmp_path)
    assert coco_content(dataset)["images"][0]["id"] == 5
    assert (image_id(dataset, 0), image_id(OwnDataset(), 2)) == (5, 2)


def test_the_id_of_an_image_is_told_without_making_all_annotations():
    class Dataset:
        ids = (70, 30)

        @property
        def content(self):
            raise AssertionError("all annotations were made for one id")

    assert [image_id(Dataset(), index) for index in range(2)] == [70, 30]
