"""Polygons of many objects in three tensors."""

import pytest
import torch

from maskrcnn_lib.structures.flat_polygons import FlatPolygons
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

SQUARE = [1.0, 2, 9, 2, 9, 8, 1, 8]
TRIANGLE = [20.0, 5, 30, 5, 25, 15]


def masks(*instances):
    return SegmentationMask(list(instances), (40, 30), allow_empty=True)


def test_offsets_lead_back_to_every_polygon():
    flat = masks([SQUARE, TRIANGLE], [], [TRIANGLE]).flat_polygons()
    assert flat.points.dtype == torch.float64
    assert flat.points.reshape(-1).tolist() == SQUARE + TRIANGLE + TRIANGLE
    assert flat.polygon_offsets.tolist() == [0, 4, 7, 10]
    assert flat.instance_offsets.tolist() == [0, 2, 2, 3]
    assert flat.count == 3


def test_flat_polygons_are_made_once_per_object_and_follow_its_operations():
    original = masks([SQUARE], [TRIANGLE])
    flat = original.flat_polygons()
    assert original.flat_polygons() is flat
    mirrored = original.transpose(0).flat_polygons()
    assert torch.equal(mirrored.points[:, 0], 40 - flat.points[:, 0])
    assert original[1:].flat_polygons().points.reshape(-1).tolist() == TRIANGLE
    doubled = original.resize((80, 60)).flat_polygons()
    assert torch.equal(doubled.points, 2 * flat.points)


def test_joined_images_equal_one_image_with_all_objects():
    first, second = [[SQUARE, TRIANGLE], []], [[TRIANGLE]]
    parts = [masks(*objects).flat_polygons() for objects in (first, [], second)]
    expected = masks(*first, *second).flat_polygons()
    joined = FlatPolygons.cat(parts)
    assert all(torch.equal(a, b) for a, b in zip(joined, expected, strict=True))


def test_no_images_and_no_objects_give_no_polygons():
    for flat in (FlatPolygons.cat([]), masks().flat_polygons()):
        assert flat.count == 0
        assert flat.points.shape == (0, 2)
        assert flat.polygon_offsets.tolist() == flat.instance_offsets.tolist() == [0]


def test_all_parts_move_together():
    moved = masks([SQUARE]).flat_polygons().to("meta")
    assert {part.device.type for part in moved} == {"meta"}


def test_bitmaps_are_refused_with_a_way_out():
    bitmaps = SegmentationMask(torch.ones(1, 30, 40, dtype=torch.bool), (40, 30), mode="mask")
    with pytest.raises(ValueError, match=r"use get_mask_tensor\(\), or convert\('poly'\)"):
        bitmaps.flat_polygons()
    assert bitmaps.convert("poly").flat_polygons().count == 1
