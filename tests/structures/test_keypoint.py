"""Keypoints: geometry, left and right, indexing."""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskrcnn_lib.structures.keypoint import (
    Keypoints,
    PersonKeypoints,
    Skeleton,
    make_keypoints,
)

quick = settings(max_examples=40, deadline=None, derandomize=True)


@st.composite
def persons(draw):
    """Up to three persons in 640 x 480; points that are not labelled stand at the origin."""
    count = draw(st.integers(0, 3))
    x = draw(hnp.arrays("float32", (count, 17), elements=st.floats(0, 640, width=32)))
    y = draw(hnp.arrays("float32", (count, 17), elements=st.floats(0, 480, width=32)))
    visibility = draw(hnp.arrays("int64", (count, 17), elements=st.integers(0, 2)))
    points = torch.stack([torch.from_numpy(v).float() for v in (x, y, visibility)], dim=2)
    return PersonKeypoints(points * (points[..., 2:] > 0), (640, 480))


@pytest.mark.parametrize("method", [0, 1])
@quick
@given(points=persons())
def test_flip_twice_is_identity(method, points):
    twice = points.transpose(method).transpose(method)
    # 640 - x is rounded to 2^-14 at most
    torch.testing.assert_close(twice.keypoints, points.keypoints, rtol=0, atol=1e-4)


@quick
@given(points=persons(), width=st.integers(1, 2000), height=st.integers(1, 2000))
def test_resize_scales_coordinates_and_keeps_visibility(points, width, height):
    resized = points.resize((width, height))
    factor = torch.tensor([width / 640, height / 480, 1], dtype=torch.float64)
    expected = points.keypoints.double() * factor
    torch.testing.assert_close(resized.keypoints.double(), expected, rtol=1e-6, atol=1e-30)
    assert resized.size == (width, height)


def some_points():
    points = torch.zeros(2, 17, 3)
    points[0, PersonKeypoints.NAMES.index("left_wrist")] = torch.tensor([100.0, 40.0, 2.0])
    points[0, PersonKeypoints.NAMES.index("nose")] = torch.tensor([10.0, 20.0, 1.0])
    points[1, PersonKeypoints.NAMES.index("right_ear")] = torch.tensor([639.5, 479.5, 2.0])
    return PersonKeypoints(points, (640, 480))


def at(points, person, name):
    return points.keypoints[person, points.NAMES.index(name)].tolist()


@pytest.mark.parametrize(
    "method, wrist, nose", [(0, [540, 40], [630, 20]), (1, [100, 440], [10, 460])]
)
def test_mirror_exchanges_left_and_right(method, wrist, nose):
    flipped = some_points().transpose(method)
    assert at(flipped, 0, "right_wrist") == [*wrist, 2]
    assert at(flipped, 0, "left_wrist") == [0, 0, 0]
    assert at(flipped, 0, "nose") == [*nose, 1]


def test_both_flips_are_a_half_turn():
    turned = some_points().transpose(0).transpose(1)
    assert at(turned, 0, "left_wrist") == [540, 440, 2]


def test_points_that_are_not_labelled_stay_at_the_origin():
    points = Keypoints([[[5, 6, 0], [5, 6, 1]]], (10, 10))
    assert points.transpose(0).keypoints.tolist() == [[[0, 0, 0], [5, 6, 1]]]


def test_crop_shifts_and_hides_what_lies_outside():
    cropped = some_points().crop((50, 30, 150.5, 60))
    assert at(cropped, 0, "left_wrist") == [50, 10, 2]
    assert at(cropped, 0, "nose") == [0, 0, 0]
    assert not cropped.keypoints[1].any()
    assert cropped.size == (100.5, 30)
    for window in ((0, 0, 99, 100), (0, 0, 200, 39), (101, 0, 200, 100), (0, 41, 200, 100)):
        assert at(some_points().crop(window), 0, "left_wrist") == [0, 0, 0]
    with pytest.raises(ValueError, match="window"):
        some_points().crop((5, 5, 5, 5))


@pytest.mark.parametrize("item, expected", [(1, [1]), (slice(None), [0, 1]), ([False, True], [1])])
def test_indexing_keeps_class_and_fields(item, expected):
    points = some_points()
    points.add_field("logits", torch.tensor([[1.0], [2.0]]))
    chosen = points[item]
    assert isinstance(chosen, PersonKeypoints)
    assert torch.equal(chosen.keypoints, points.keypoints[expected])
    assert torch.equal(chosen.get_field("logits"), points.get_field("logits")[expected])
    assert chosen.transpose(0).to("cpu").has_field("logits")


def test_coco_lists_are_accepted():
    flat = some_points().keypoints.reshape(2, 51).tolist()
    assert torch.equal(PersonKeypoints(flat, (640, 480)).keypoints, some_points().keypoints)
    assert PersonKeypoints([], (640, 480)).keypoints.shape == (0, 17, 3)


def test_another_skeleton_is_a_subclass():
    class Arrow(Keypoints):
        NAMES = ("tip", "left_end", "right_end")
        FLIP_MAP = {"left_end": "right_end"}  # noqa: RUF012

    assert Arrow.FLIP_INDS == (0, 2, 1)
    arrow = Arrow([[[1, 1, 2], [2, 2, 2], [3, 3, 2]]], (10, 10))
    assert arrow.transpose(0).keypoints[0, :, 0].tolist() == [9, 7, 8]
    with pytest.raises(ValueError, match="lacks"):
        type("Wrong", (Keypoints,), {"NAMES": ("a",), "FLIP_MAP": {"a": "b"}})


def test_coco_skeleton():
    names = PersonKeypoints.NAMES
    assert len(names) == 17 and names[0] == "nose" and names[16] == "right_ankle"
    assert PersonKeypoints.FLIP_MAP["left_hip"] == "right_hip"
    assert PersonKeypoints.FLIP_INDS == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    assert {i for pair in PersonKeypoints.CONNECTIONS for i in pair} == set(range(17))


def test_join_needs_one_class_and_size():
    points = some_points()
    assert torch.equal(Keypoints.cat([points[:1], points[1:]]).keypoints, points.keypoints)
    with pytest.raises(ValueError, match="one class, skeleton and size"):
        Keypoints.cat([points, Keypoints(points.keypoints, points.size)])


@pytest.mark.parametrize(
    "wrong", [torch.zeros(2, 16, 3), torch.zeros(2, 17, 2), torch.zeros(2, 50)]
)
def test_wrong_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match=r"points|\(N, K, 3\)"):
        PersonKeypoints(wrong, (640, 480))
    with pytest.raises(ValueError, match="flip"):
        some_points().transpose(3)


def test_a_skeleton_of_the_data_finds_its_partners_by_name_and_stays():
    skeleton = Skeleton(("nose", "Left ear", "Right ear", "left_paw", "tail"), ((0, 1), (0, 2)))
    assert skeleton.flip_inds == (0, 2, 1, 3, 4)  # the left paw has no partner
    points = Keypoints(
        [[[10, 5, 2], [8, 4, 2], [12, 4, 2], [1, 1, 1], [0, 0, 0]]], (20, 10), skeleton
    )
    flipped = pickle.loads(pickle.dumps(points[:1].transpose(0).resize((40, 20))))
    assert flipped.keypoints[0, :, 0].tolist() == [20, 16, 24, 38, 0]
    assert flipped.CONNECTIONS == ((0, 1), (0, 2))
    with pytest.raises(ValueError, match="has 5 points per object, got 4"):
        Keypoints(points.keypoints[:, :4], (20, 10), skeleton)


def test_keypoints_get_the_class_that_fits_them():
    points, size = torch.zeros(2, 17, 3), (10, 10)
    assert type(make_keypoints(points, size, None)) is PersonKeypoints
    assert type(make_keypoints(points, size, Skeleton(PersonKeypoints.NAMES))) is PersonKeypoints
    horse = Skeleton(tuple(f"point {i}" for i in range(17)))
    assert make_keypoints(points, size, horse).skeleton == horse
    assert type(make_keypoints(points[:, :5], size, None)) is Keypoints
