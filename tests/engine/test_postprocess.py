"""Detections return to the original image under each toolbox's arithmetic."""

import pytest
import torch

from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.engine.postprocess import keep_confident, restore_original_size
from maskrcnn_lib.modeling.roi_heads.mask_head.inference import Masker
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.visualization.crops import instance_crops


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


def closed_pixel_bitmap(mask, box, width, height):
    """maskrcnn-benchmark's paste of an (M, M) mask into a box x1, y1, x2, y2 of closed pixels."""
    size = len(mask) + 2
    scale = size / len(mask)
    x1, y1, x2, y2 = box
    half_width, half_height = 0.5 * (x2 - x1) * scale, 0.5 * (y2 - y1) * scale
    x, y = 0.5 * (x1 + x2), 0.5 * (y1 + y2)
    left, top = int(x - half_width), int(y - half_height)
    right, bottom = int(x + half_width), int(y + half_height)
    padded = torch.nn.functional.pad(mask, (1, 1, 1, 1))[None, None]
    shape = (max(bottom - top + 1, 1), max(right - left + 1, 1))
    values = torch.nn.functional.interpolate(padded, shape, mode="bilinear", align_corners=False)
    bitmap = torch.zeros((height, width), dtype=torch.bool)
    for row in range(max(top, 0), min(bottom + 1, height)):
        for column in range(max(left, 0), min(right + 1, width)):
            bitmap[row, column] = values[0, 0, row - top, column - left] > 0.5
    return bitmap


def test_every_way_to_pixels_pastes_closed_pixel_boxes_as_maskrcnn_benchmark():
    from pycocotools import mask as coder

    dialect = get_dialect("maskrcnn_benchmark")
    offset = dialect.box_end_offset
    closed = torch.tensor([[10.3, 20.6, 58.9, 49.2], [0.0, 3.0, 199.0, 99.0]])
    torch.manual_seed(0)
    found = BoxList(closed + torch.tensor([0.0, 0.0, 1.0, 1.0]), (200, 100))
    found.add_field("scores", torch.tensor([0.9, 0.8]))
    found.add_field("labels", torch.tensor([1, 2]))
    found.add_field("mask", torch.rand(2, 1, 28, 28))
    restored = restore_original_size(found, (330, 170), dialect)
    scaled = closed * torch.tensor([1.65, 1.7, 1.65, 1.7])
    masks = restored.get_field("mask")
    expected = [
        closed_pixel_bitmap(mask[0], box, 330, 170)
        for mask, box in zip(masks, scaled.tolist(), strict=True)
    ]
    (pasted,) = Masker(box_end_offset=offset)([masks], [restored])
    results = restored.to_coco(image_id=1, category_ids=[0, 1, 2], paste=dialect.paste_rule)
    crops = instance_crops(restored, paste=dialect.paste_rule)
    ways = zip(pasted, results, crops, expected, scaled.tolist(), strict=True)
    for bitmap, result, (crop, (left, top)), truth, (x1, y1, x2, y2) in ways:
        assert result["bbox"] == pytest.approx([x1, y1, x2 - x1 + 1, y2 - y1 + 1], abs=1e-4)
        drawn = torch.zeros_like(truth)
        drawn[top : top + crop.shape[0], left : left + crop.shape[1]] = torch.from_numpy(crop)
        decoded = torch.from_numpy(coder.decode(result["segmentation"])).bool()
        for way in (bitmap[0], decoded, drawn):
            assert (way != truth).sum() <= 2  # values that rounding moves over the threshold


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
