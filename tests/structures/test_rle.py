"""Run lengths: agreement with pycocotools, and refusal of what makes it read beyond the end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from maskrcnn_lib.structures.rle import decode_rle

bitmaps = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=30))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(bitmap=bitmaps)
def test_compressed_counts_decode_as_pycocotools_encodes(bitmap):
    rle = coco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8)))
    assert np.array_equal(decode_rle(rle, bitmap.shape), bitmap)
    as_text = {"size": rle["size"], "counts": rle["counts"].decode()}
    assert np.array_equal(decode_rle(as_text, bitmap.shape), bitmap)


def test_long_runs_decode():
    bitmap = np.zeros((3000, 4000), dtype=np.uint8, order="F")
    bitmap[100:2900, 1:3999] = 1
    bitmap[5, 7] = 1
    assert np.array_equal(decode_rle(coco_mask.encode(bitmap), bitmap.shape), bitmap > 0)


def test_uncompressed_counts_run_down_the_columns():
    decoded = decode_rle({"size": [2, 3], "counts": [1, 3, 2]}, (2, 3))
    assert decoded.astype(int).tolist() == [[0, 1, 0], [1, 1, 0]]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    counts=st.one_of(
        st.binary(max_size=12),
        st.text(max_size=12),
        st.lists(st.one_of(st.integers(), st.floats()), max_size=8),
    )
)
def test_any_garbage_is_refused_or_fills_the_image(counts):
    try:
        decoded = decode_rle({"size": [5, 4], "counts": counts}, (5, 4))
    except ValueError:
        return
    assert decoded.shape == (5, 4)


@pytest.mark.parametrize(
    "rle, message",
    [
        ({"size": [5, 4], "counts": [3]}, "add up"),
        ({"size": [5, 4], "counts": [21]}, "add up"),
        ({"size": [5, 4], "counts": [-1, 21]}, "add up"),
        ({"size": [5, 4], "counts": [10, -5, 15]}, "add up"),
        ({"size": [5, 4], "counts": []}, "add up"),
        ({"size": [5, 4], "counts": b""}, "add up"),
        ({"size": [5, 4], "counts": [1.5, 18.5]}, "whole numbers"),
        ({"size": [5, 4], "counts": ["a"]}, "list of numbers"),
        ({"size": [5, 4], "counts": [[20]]}, "flat"),
        ({"size": [5, 4], "counts": [10**400]}, "list of numbers"),
        ({"size": [5, 4], "counts": [1e308, 1e308]}, "add up"),
        ({"size": None, "counts": [20]}, "expected"),
        ({"size": [5, 4], "counts": "é"}, "characters"),
        ({"size": [5, 4], "counts": "oooo"}, "cut off"),
        ({"size": [5, 4], "counts": "P" * 9 + "0"}, "35 bits"),
        ({"size": [4, 5], "counts": [20]}, "expected"),
        ({"counts": [20]}, "keys"),
    ],
)
def test_wrong_run_lengths_are_refused(rle, message):
    with pytest.raises(ValueError, match=message):
        decode_rle(rle, (5, 4))
