"""Predictions as annotations: what is added, and outlines that one can edit."""

import numpy as np
import pytest
from pycocotools import mask as coder

from maskrcnn_lib.evaluation.predicted_dataset import outlines_to_edit, predicted_dataset

IMAGES = [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 50}]


def encoded(bitmap):
    rle = coder.encode(np.asfortranarray(bitmap.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def disc(radius, x=30, y=25):
    ys, xs = np.mgrid[:50, :60] + 0.5
    return (xs - x) ** 2 + (ys - y) ** 2 < radius**2


def overlap(polygons, bitmap):
    drawn = coder.merge(coder.frPyObjects(polygons, 50, 60))
    return coder.iou([drawn], [encoded(bitmap)], [0])[0, 0]


# A pixel along the whole circumference is 2 / radius of the area; what is lost is a third of that.
@pytest.mark.parametrize("radius", [20, 10, 5])
def test_outlines_have_few_corners_and_keep_the_area(radius):
    (outline,) = outlines_to_edit(encoded(disc(radius)))
    assert len(outline) / 2 <= 16  # the stairs of the largest circle have 92
    assert overlap([outline], disc(radius)) > 1 - 1 / radius


def test_tiny_masks_keep_each_pixel():
    bitmap = np.zeros((50, 60), dtype=bool)
    bitmap[4, 7] = bitmap[20:22, 30:33] = True
    polygons = outlines_to_edit(encoded(bitmap))
    assert len(polygons) == 2 and overlap(polygons, bitmap) == 1


def test_holes_stay_holes():
    ring = disc(20) & ~disc(8)
    polygons = outlines_to_edit(encoded(ring))
    drawn = coder.decode(coder.merge(coder.frPyObjects(polygons, 50, 60)))
    assert drawn[25, 30] == 0 and overlap(polygons, ring) > 0.93


def test_without_a_pixel_or_a_mask_an_object_is_its_box():
    box = {"image_id": 1, "category_id": 2, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}
    empty = {**box, "segmentation": encoded(np.zeros((50, 60), dtype=bool))}
    content = predicted_dataset(IMAGES, [box, empty], names={2: "cat"}, polygons=True)
    assert [each["segmentation"] for each in content["annotations"]] == [[], []]


def test_results_become_annotations_and_keep_their_scores():
    box = {"image_id": 1, "category_id": 2, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}
    masked = {**box, "segmentation": encoded(disc(5)), "keypoints": [1.0, 2.0, 2.0, 0.0, 0.0, 0.0]}
    content = predicted_dataset(IMAGES, [box, masked], names={2: "cat", 3: "dog"})
    first, second = content["annotations"]
    assert first == {**box, "id": 1, "iscrowd": 0, "area": 12.0}
    assert second["area"] == disc(5).sum() and second["num_keypoints"] == 1
    assert second["segmentation"] == masked["segmentation"] and second["id"] == 2
    assert content["categories"] == [{"id": 2, "name": "cat"}, {"id": 3, "name": "dog"}]
    assert content["images"] == IMAGES
