"""Detections of file and model are compared one by one, whatever the order of equal scores."""

import torch

from maskrcnn_lib.export.agreement import agreement
from maskrcnn_lib.structures.bounding_box import BoxList


def detections():
    boxes = torch.tensor([[0, 0, 9, 9], [20, 0, 40, 30], [21, 1, 40, 30], [5, 5, 50, 60]]).float()
    scores, labels = torch.tensor([0.9, 0.5, 0.5, 0.2]), torch.tensor([1, 2, 2, 1])
    model = BoxList(boxes, (100, 100))
    model.add_field("scores", scores)
    model.add_field("labels", labels)
    return model, {"boxes": boxes.clone(), "scores": scores.clone(), "labels": labels.clone()}


def test_equal_scores_may_come_in_any_order():
    model, file = detections()
    swapped = {name: values[[0, 2, 1, 3]] for name, values in file.items()}
    swapped["scores"][1] += 5e-8
    assert agreement(model, swapped).good
    assert agreement(model, swapped).boxes == 0


def test_another_order_of_unequal_scores_is_a_difference():
    model, file = detections()
    assert not agreement(model, {name: values[[1, 0, 2, 3]] for name, values in file.items()}).good


def test_no_detection_stands_for_two():
    model, file = detections()
    file["boxes"][2] = file["boxes"][1]
    result = agreement(model, file)
    assert not result.good and result.boxes == 1


def test_each_difference_counts():
    for name, change in (("boxes", 0.1), ("scores", 1e-3), ("labels", 1)):
        model, file = detections()
        file[name][0] += change
        assert not agreement(model, file).good
    model, file = detections()
    fewer = {name: values[:3] for name, values in file.items()}
    assert str(agreement(model, fewer)) == "the model finds 4 objects, the file 3"
    assert agreement(model, file).good


def test_nothing_found_is_nothing_different():
    model, file = detections()
    assert agreement(model[[]], {name: values[:0] for name, values in file.items()}).good
