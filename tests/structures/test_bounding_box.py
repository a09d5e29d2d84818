"""BoxList: hand-computed geometry, algebraic properties, fields that follow."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn_lib.structures.bounding_box import FLIP_LEFT_RIGHT, FLIP_TOP_BOTTOM, BoxList
from maskrcnn_lib.structures.keypoint import Keypoints
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

quick = settings(max_examples=60, deadline=None, derandomize=True)
# float32 keeps 24 bits: coordinates below 4096 pixels are rounded to 2^-13, a few times in a row
TOLERANCE = 1e-3


@st.composite
def box_lists(draw):
    width, height = draw(st.integers(1, 2000)), draw(st.integers(1, 2000))
    count = draw(st.integers(0, 5))
    fraction = st.floats(-0.5, 1.5, width=32)
    boxes = []
    for _ in range(count):
        xs = sorted(draw(fraction) * width for _ in range(2))
        ys = sorted(draw(fraction) * height for _ in range(2))
        boxes.append([xs[0], ys[0], xs[1], ys[1]])
    result = BoxList(torch.tensor(boxes).reshape(-1, 4), (width, height))
    result.add_field("labels", torch.arange(count))
    return result


def two_boxes():
    boxes = BoxList([[0, 0, 100, 80], [10, 20, 30, 50]], (100, 80))
    boxes.add_field("labels", torch.tensor([7, 8]))
    boxes.add_field("names", ["cup", "cat"])
    boxes.add_field("scores", np.array([0.5, 0.25]))
    return boxes


@pytest.mark.parametrize("method", [FLIP_LEFT_RIGHT, FLIP_TOP_BOTTOM])
@pytest.mark.parametrize("mode", ["xyxy", "xywh"])
@quick
@given(boxes=box_lists())
def test_flip_twice_is_identity(method, mode, boxes):
    boxes = boxes.convert(mode)
    twice = boxes.transpose(method).transpose(method)
    torch.testing.assert_close(twice.bbox, boxes.bbox, rtol=0, atol=TOLERANCE)
    assert twice.mode == mode and twice.size == boxes.size


@quick
@given(boxes=box_lists())
def test_convert_there_and_back_is_identity(boxes):
    back = boxes.convert("xywh").convert("xyxy")
    torch.testing.assert_close(back.bbox, boxes.bbox, rtol=0, atol=TOLERANCE)
    assert back.get_field("labels") is boxes.get_field("labels")


@quick
@given(boxes=box_lists(), width=st.integers(1, 3000), height=st.integers(1, 3000))
def test_resize_agrees_with_float64_and_undoes_itself(boxes, width, height):
    resized = boxes.resize((width, height))
    factor = np.array([width / boxes.size[0], height / boxes.size[1]] * 2)
    expected = boxes.bbox.double().numpy() * factor
    np.testing.assert_allclose(resized.bbox.numpy(), expected, rtol=1e-6, atol=1e-30)
    assert resized.size == (width, height)
    back = resized.resize(boxes.size)
    torch.testing.assert_close(back.bbox, boxes.bbox, rtol=1e-6, atol=1e-30)


@quick
@given(boxes=box_lists())
def test_geometry_is_the_same_in_both_modes(boxes):
    other = boxes.convert("xywh")
    for change in (
        lambda b: b.transpose(0),
        lambda b: b.resize((123, 457)),
        lambda b: b.crop((3, 4, 50, 60)),
        lambda b: b.clip_to_image(remove_empty=False),
    ):
        expected, got = change(boxes), change(other)
        assert got.mode == "xywh"
        torch.testing.assert_close(got.convert("xyxy").bbox, expected.bbox, rtol=1e-5, atol=0.01)


def test_flips_mirror_about_the_continuous_centre():
    boxes = two_boxes()
    left_right, top_bottom = boxes.transpose(FLIP_LEFT_RIGHT), boxes.transpose(FLIP_TOP_BOTTOM)
    assert left_right.bbox.tolist() == [[0, 0, 100, 80], [70, 20, 90, 50]]
    assert top_bottom.bbox.tolist() == [[0, 0, 100, 80], [10, 30, 30, 60]]


def test_resize_scales_each_axis_by_its_ratio():
    resized = two_boxes().resize((200, 40))
    assert resized.bbox.tolist() == [[0, 0, 200, 40], [20, 10, 60, 25]]
    assert resized.size == (200, 40)


def test_crop_shifts_clips_and_keeps_empty_boxes():
    cropped = two_boxes().crop((25, 40, 65.5, 90))
    assert cropped.bbox.tolist() == [[0, 0, 40.5, 40], [0, 0, 5, 10]]
    assert cropped.size == (40.5, 50)
    outside = two_boxes().crop((40, 60, 60, 70))
    assert outside.area().tolist() == [200, 0]
    assert len(outside) == 2


def test_clip_to_image_returns_a_new_list_without_empty_boxes():
    boxes = BoxList([[-5, -5, 10, 10], [100, 0, 120, 10], [99, 79, 100, 80]], (100, 80))
    boxes.add_field("labels", torch.tensor([1, 2, 3]))
    clipped = boxes.clip_to_image()
    assert clipped.bbox.tolist() == [[0, 0, 10, 10], [99, 79, 100, 80]]
    assert clipped.get_field("labels").tolist() == [1, 3]
    assert boxes.bbox[0].tolist() == [-5, -5, 10, 10]
    assert len(boxes.clip_to_image(remove_empty=False)) == 3


def test_area_is_continuous():
    assert two_boxes().area().tolist() == [8000, 600]
    assert two_boxes().convert("xywh").area().tolist() == [8000, 600]


@pytest.mark.parametrize(
    "item, expected",
    [
        (1, [1]),
        (-1, [1]),
        (slice(None, None, -1), [1, 0]),
        (slice(1, None), [1]),
        ([1, 1, 0], [1, 1, 0]),
        ([], []),
        ([False, True], [1]),
        (torch.tensor([True, False]), [0]),
        (torch.tensor([1, 0], dtype=torch.uint8), [0]),
        (torch.tensor([1], dtype=torch.int32), [1]),
        (torch.tensor(1), [1]),
        (np.array([1, 0]), [1, 0]),
        (np.array([True, True]), [0, 1]),
        (np.int64(1), [1]),
    ],
)
def test_indexing_selects_boxes_with_all_their_fields(item, expected):
    boxes = two_boxes()
    chosen = boxes[item]
    assert chosen.bbox.tolist() == [boxes.bbox[i].tolist() for i in expected]
    assert chosen.get_field("labels").tolist() == [[7, 8][i] for i in expected]
    assert chosen.get_field("names") == [["cup", "cat"][i] for i in expected]
    assert chosen.get_field("scores").tolist() == [[0.5, 0.25][i] for i in expected]


def test_iteration_gives_lists_of_one():
    assert [one.get_field("names") for one in two_boxes()] == [["cup"], ["cat"]]


@pytest.mark.parametrize(
    "item, error",
    [
        (2, IndexError),
        (-3, IndexError),
        ([True], IndexError),
        (0.5, TypeError),
        ((0, 1), TypeError),
        (torch.zeros(1, 2, dtype=torch.int64), TypeError),
        (True, TypeError),
    ],
)
def test_wrong_index_is_refused(item, error):
    with pytest.raises(error):
        two_boxes()[item]


def test_masks_and_keypoints_follow_every_operation():
    boxes = BoxList([[10, 20, 30, 50], [0, 0, 5, 5]], (100, 80))
    corners = [[[10, 20, 30, 20, 30, 50, 10, 50]], [[0, 0, 5, 0, 5, 5, 0, 5]]]
    boxes.add_field("masks", SegmentationMask(corners, boxes.size))
    boxes.add_field("bitmaps", boxes.get_field("masks").convert("mask"))
    boxes.add_field("keypoints", Keypoints([[[10, 20, 2]], [[0, 0, 2]]], boxes.size))
    for changed in (
        boxes.transpose(0),
        boxes.transpose(1),
        boxes.resize((50, 160)),
        boxes.crop((8, 8, 60, 70)),
        boxes[[0, 1]].to("cpu"),
    ):
        x1, y1, x2, y2 = changed.bbox[0].int().tolist()
        expected = torch.zeros(*map(int, changed.size[::-1]), dtype=torch.bool)
        expected[y1:y2, x1:x2] = True
        assert changed.get_field("masks").size == changed.size
        assert torch.equal(changed.get_field("masks").get_mask_tensor()[0], expected)
        assert torch.equal(changed.get_field("bitmaps").get_mask_tensor()[0], expected)
        point = changed.get_field("keypoints").keypoints[0, 0]
        assert point[0] in (x1, x2) and point[1] in (y1, y2)


def with_all_fields():
    boxes = two_boxes()
    boxes.add_field("masks", SegmentationMask([[[0, 0, 9, 0, 9, 9]]] * 2, boxes.size))
    boxes.add_field("bitmaps", boxes.get_field("masks").convert("mask"))
    boxes.add_field("keypoints", Keypoints(torch.rand(2, 3, 3), boxes.size))
    return boxes


@pytest.mark.parametrize("device", ["meta", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_to_moves_what_can_move_and_geometry_works_there(device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    moved = with_all_fields().to(device)[[1]].resize((50, 40)).transpose(1).crop((0, 0, 30, 30))
    assert moved.bbox.device.type == device
    assert moved.get_field("labels").device.type == device
    assert moved.get_field("keypoints").keypoints.device.type == device
    assert moved.get_field("bitmaps").get_mask_tensor().device.type == device
    assert moved.get_field("masks").get_mask_tensor().device.type == "cpu"
    assert moved.get_field("names") == ["cat"]


def test_field_of_another_length_is_refused():
    boxes = two_boxes()
    with pytest.raises(ValueError, match=r"'labels' has 3 entries for 2"):
        boxes.add_field("labels", torch.zeros(3))
    with pytest.raises(TypeError, match="one entry per instance"):
        boxes.add_field("labels", 3)
    with pytest.raises(TypeError, match="single number"):
        boxes.add_field("labels", torch.tensor(3))


def test_copy_with_fields_keeps_only_those_named():
    boxes = two_boxes()
    copy = boxes.copy_with_fields(["labels", "none"], skip_missing=True)
    assert copy.fields() == ["labels"] and copy.bbox is boxes.bbox
    assert boxes.copy_with_fields("names").fields() == ["names"]
    with pytest.raises(KeyError, match="labels"):
        boxes.copy_with_fields(["none"])
    copy.add_field("new", [1, 2])
    assert not boxes.has_field("new")


@pytest.mark.parametrize("empty", [[], torch.zeros(0, 4), np.zeros((0, 4)), torch.zeros(0)])
def test_empty_list_survives_every_operation(empty):
    boxes = BoxList(empty, (10, 20))
    boxes.add_field("labels", torch.zeros(0))
    changed = boxes.transpose(0).resize((5, 5)).crop((0, 0, 3, 3)).convert("xywh")
    assert changed.clip_to_image().bbox.shape == (0, 4)
    assert boxes.area().shape == (0,)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([[1, 2, 3]], (5, 5)), r"\(N, 4\)"),
        (([1, 2, 3, 4], (5, 5)), r"\(N, 4\)"),
        (([[1, 2, 3, 4]], (5, 5), "xcyc"), "mode"),
        (([[1, 2, 3, 4]], (0, 5)), "image_size"),
        (([[1, 2, 3, 4]], (5,)), "image_size"),
        (([[1, 2, 3, 4]], (float("nan"), 5)), "image_size"),
    ],
)
def test_impossible_boxes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BoxList(*arguments)


@pytest.mark.parametrize("window", [(5, 5, 5, 9), (5, 5, 4, 9), (0, 0, float("nan"), 9), (1, 2, 3)])
def test_impossible_crop_window_is_refused(window):
    with pytest.raises(ValueError, match="window"):
        two_boxes().crop(window)


def test_unknown_flip_and_mode_are_refused():
    with pytest.raises(ValueError, match="flip"):
        two_boxes().transpose(2)
    with pytest.raises(ValueError, match="mode"):
        two_boxes().convert("yxyx")


def test_repr_says_what_is_inside():
    assert repr(two_boxes()) == (
        "BoxList(num_boxes=2, image_width=100, image_height=80, mode=xyxy, "
        "fields=['labels', 'names', 'scores'])"
    )
