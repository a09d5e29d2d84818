"""Joining data sets: order, and classes matched by name."""

import numpy as np
import pytest
import torch

from maskrcnn_lib.data.datasets import ConcatDataset
from maskrcnn_lib.structures.bounding_box import BoxList


class Listed:
    """A data set as users write them: no base class, an image per list of labels."""

    def __init__(self, labels, categories=None):
        self.labels = labels
        if categories:
            self.categories = categories

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        labels = torch.tensor(self.labels[index], dtype=torch.int64)
        target = BoxList(torch.tensor([[0.0, 0, 5, 5]]).repeat(len(labels), 1), (10, 8))
        target.add_field("labels", labels)
        return np.zeros((8, 10, 3), np.uint8), target, index

    def get_img_info(self, index):
        return {"height": 8, "width": 10, "first": self.labels[index][:1]}


def labels(dataset):
    return [dataset[i][1].get_field("labels").tolist() for i in range(len(dataset))]


def test_images_follow_each_other_with_their_new_positions():
    dataset = ConcatDataset([Listed([[1], [2]]), Listed([[3]])])
    assert labels(dataset) == [[1], [2], [3]]
    assert [dataset[i][2] for i in range(3)] == [0, 1, 2]
    assert [dataset.get_img_info(i)["first"] for i in range(3)] == [[1], [2], [3]]
    assert dataset.class_names == []
    with pytest.raises(IndexError, match="3 is out of range for 3"):
        dataset[3]


def test_classes_are_matched_by_name():
    first = Listed([[1, 2]], {5: "cat", 9: "dog"})
    second = Listed([[1, 2, 3]], {1: "bird", 2: "dog", 3: "cat"})
    dataset = ConcatDataset([first, second])
    assert dataset.categories == {1: "cat", 2: "dog", 3: "bird"}
    assert labels(dataset) == [[1, 2], [3, 2, 1]]
    assert dataset.target(1).get_field("labels").tolist() == [3, 2, 1]
    assert first[0][1].get_field("labels").tolist() == [1, 2]


def test_class_map_renames_and_leaves_out():
    first = Listed([[1]], {1: "person"})
    second = Listed([[1, 2, 3]], {1: "people", 2: "shadow", 3: "car"})
    maps = [None, {"people": "person", "shadow": None}]
    dataset = ConcatDataset([first, second], ["car", "person"], maps)
    assert labels(dataset) == [[2], [2, 1]]
    assert dataset.class_names == ["__background__", "car", "person"]


def test_class_that_has_no_place_is_an_error():
    part = Listed([[1]], {1: "person"})
    with pytest.raises(ValueError, match=r"classes person are not in class_names.*car"):
        ConcatDataset([part], ["car"])
    with pytest.raises(KeyError, match="cta"):
        ConcatDataset([part], ["person"], [{"cta": "person"}])
    with pytest.raises(ValueError, match="differ"):
        ConcatDataset([part], ["person", "person"])


def test_named_and_unnamed_classes_do_not_mix():
    with pytest.raises(ValueError, match="1 of 2 data sets name no classes"):
        ConcatDataset([Listed([[1]], {1: "cat"}), Listed([[1]])])


def test_nothing_to_join_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        ConcatDataset([])


def test_empty_part_is_passed_over():
    assert labels(ConcatDataset([Listed([]), Listed([[4]]), Listed([])])) == [[4]]
