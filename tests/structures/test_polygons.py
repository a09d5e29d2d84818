"""Rasterising by pycocotools' rule, exact tracing, and coordinates far outside the image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from maskrcnn_lib.structures.polygons import rasterize, read_polygons, trace

bitmaps = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(bitmap=bitmaps)
def test_traced_bitmap_rasterises_to_itself(bitmap):
    assert np.array_equal(rasterize(trace(bitmap), bitmap.shape), bitmap)


def test_traced_outlines_run_along_pixel_edges():
    bitmap = np.zeros((4, 5), dtype=bool)
    bitmap[1:3, 1:4] = True
    (outline,) = trace(bitmap)
    assert outline.tolist() == [[1, 1], [4, 1], [4, 3], [1, 3]]


def test_tracing_keeps_holes_and_areas():
    bitmap = np.ones((9, 9), dtype=bool)
    bitmap[2:7, 2:7] = False
    bitmap[4, 4] = True
    (outline,) = trace(bitmap)
    x, y = outline.T
    area = 0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))
    assert area == bitmap.sum() == 81 - 25 + 1
    assert trace(np.zeros((3, 3), dtype=bool)) == []


def test_separate_parts_become_separate_polygons():
    bitmap = np.zeros((6, 6), dtype=bool)
    bitmap[0:2, 0:2] = bitmap[4:6, 3:6] = True
    assert len(trace(bitmap)) == 2


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    points=hnp.arrays(
        np.float64, st.tuples(st.integers(3, 9), st.just(2)), elements=st.floats(-30, 60)
    )
)
def test_rasterising_agrees_with_pycocotools(points):
    flat = [points.reshape(-1).tolist()]
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, 25, 31)))
    assert np.array_equal(rasterize([points], (25, 31)), expected > 0)


def test_polygons_are_united():
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], dtype=np.float64)
    covered = rasterize([square, square + 2], (6, 6))
    assert covered.sum() == 16 + 16 - 4


@pytest.mark.parametrize("far", [1e5, 1e9, 1e300])
def test_coordinates_far_outside_are_clipped_before_they_reach_c_code(far):
    frame = np.array([[-far, -far], [far, -far], [far, far], [-far, far]])
    assert rasterize([frame], (20, 30)).all()
    below = np.array([[-far, 10], [far, 10], [far, far], [-far, far]])
    expected = np.zeros((20, 30), dtype=bool)
    expected[10:] = True
    assert np.array_equal(rasterize([below], (20, 30)), expected)
    assert not rasterize([frame + 3 * far], (20, 30)).any()


def test_polygons_may_be_flat_or_pairs():
    flat, pairs = read_polygons([[0, 0, 4, 0, 4, 4], [[0, 0], [4, 0], [4, 4]]])
    assert np.array_equal(flat, pairs)


def test_polygons_without_area_are_left_out():
    assert read_polygons([[0, 0, 4, 4], [], [1, 1]]) == []


@pytest.mark.parametrize(
    "polygon, message",
    [
        ([0, 0, 4, 0, float("nan"), 4], "not finite"),
        ([0, 0, 4, 0, float("inf"), 4], "not finite"),
        ([0, 0, 4, 0, 4], "odd"),
        (["a", "b"], "numbers"),
        ([10**400] * 6, "numbers"),
        ([[0, 0, 0], [1, 1, 1]], "shape"),
        (None, "shape|numbers"),
    ],
)
def test_wrong_coordinates_are_refused(polygon, message):
    with pytest.raises(ValueError, match=message):
        read_polygons([[0, 0, 4, 0, 4, 4], polygon])
