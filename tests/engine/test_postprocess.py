"""Detections return to the original image under each toolbox's arithmetic."""

import pytest
import torch

from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.engine.postprocess import keep_confident, restore_original_size
from maskrcnn_lib.structures.bounding_box import BoxList


def detections():
    boxes = BoxList([[10.0, 20.0, 60.0, 50.0], [0.0, 0.0, 200.0, 100.0]], (200, 100))
    boxes.add_field("scores", torch.tensor([0.3, 0.9]))
    boxes.add_field("labels", torch.tensor([2, 1]))
    boxes.add_field("mask", torch.rand(2, 1, 28, 28))
    return boxes


@pytest.mark.parametrize("name", ["torchvision", "detectron2", "d2go"])
def test_continuous_boxes_scale_with_the_image(name):
    restored = restore_original_size(detections(), (500, 300), get_dialect(name))
    expected = torch.tensor([[25.0, 60.0, 150.0, 150.0], [0.0, 0.0, 500.0, 300.0]])
    torch.testing.assert_close(restored.bbox, expected)
    assert restored.size == (500, 300)


def test_closed_pixel_boxes_scale_the_index_of_their_last_pixel():
    restored = restore_original_size(detections(), (500, 300), get_dialect("maskrcnn_benchmark"))
    # maskrcnn-benchmark holds this box as 10, 20, 59, 49 and multiplies by 2.5 and 3: the last
    # pixel becomes 147.5, 147, the edge one more
    expected = torch.tensor([[25.0, 60.0, 148.5, 148.0], [0.0, 0.0, 498.5, 298.0]])
    torch.testing.assert_close(restored.bbox, expected)


def test_fields_are_kept_as_they_are():
    before = detections()
    after = restore_original_size(before, (500, 300), get_dialect("torchvision"))
    assert after.get_field("mask") is before.get_field("mask")
    assert set(after.fields()) == set(before.fields())


def test_confident_detections_come_sorted():
    kept = keep_confident(detections(), 0.2)
    assert kept.get_field("labels").tolist() == [1, 2]
    assert len(keep_confident(detections(), 0.5)) == 1
    assert len(keep_confident(detections(), 0.9)) == 0
