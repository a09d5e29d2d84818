"""Pictures show what they should, where they should."""

import numpy as np
import pytest
import torch

from maskrcnn_lib.config.dialects import PasteRule
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.visualization.colors import class_colors, instance_colors
from maskrcnn_lib.visualization.crops import instance_crops
from maskrcnn_lib.visualization.draw import (
    draw_boxes,
    draw_keypoints,
    draw_masks,
    largest_first,
    line_width,
)
from maskrcnn_lib.visualization.heat_maps import heat_map, mask_montage, montage
from maskrcnn_lib.visualization.labels import draw_labels, font_size, place_labels

GREY = np.full((120, 160, 3), 128, dtype=np.uint8)
RED = np.array([[255, 0, 0]], dtype=np.uint8)


def changed(image):
    return (image != GREY).any(axis=-1)


def test_colors_are_fixed_per_class_and_differ_between_neighbours():
    colors = class_colors(np.arange(1, 81))
    np.testing.assert_array_equal(colors[4], class_colors(np.array([5]))[0])
    assert len({tuple(c) for c in colors.tolist()}) == 80


def _seen_by(colors, kind):
    """Linear RGB as dichromats see it: Vienot, Brettel and Mollon (1999)."""
    linear = (colors / 255.0) ** 2.2
    matrices = {
        "normal": np.eye(3),
        "protanopia": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        "deuteranopia": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    }
    return linear @ np.array(matrices[kind]).T


@pytest.mark.parametrize("kind", ["normal", "protanopia", "deuteranopia"])
def test_colors_of_neighbours_differ_for_every_eye(kind):
    row = np.arange(7)[:, None] * [50.0, 0, 50, 0] + [0.0, 0, 40, 40]
    seen = _seen_by(instance_colors(row), kind)
    distances = np.linalg.norm(seen[:, None] - seen[None], axis=2)[np.triu_indices(7, 1)]
    assert distances.min() > 0.08  # red and green of a traffic light come within 0.03


def test_an_object_has_the_color_of_none_that_touches_it():
    rng = np.random.default_rng(3)
    corners = np.stack(np.meshgrid(np.arange(10), np.arange(10)), -1).reshape(-1, 2) * 100.0
    boxes = np.concatenate([corners, corners + 100], axis=1)[rng.permutation(100)]
    colors = instance_colors(boxes)
    gaps = np.maximum(
        boxes[:, None, :2] - boxes[None, :, 2:], boxes[None, :, :2] - boxes[:, None, 2:]
    )
    beside = (gaps.max(axis=2) <= 0) & ~np.eye(100, dtype=bool)
    same = (colors[:, None] == colors[None]).all(axis=2)
    assert beside.sum(axis=1).max() == 8
    assert (beside & same).sum() / beside.sum() < 0.05  # seven colours, eight neighbours
    assert instance_colors(np.zeros((0, 4))).shape == (0, 3)
    red = instance_colors(boxes[:7])[6]
    assert not (instance_colors(boxes, without_red=True) == red).all(axis=1).any()


def test_boxes_are_drawn_on_their_edges_only():
    drawn = changed(draw_boxes(GREY, np.array([[20.0, 30.0, 100.0, 90.0]]), RED))
    assert drawn[30, 20:100].all() and drawn[30:90, 100].all()
    assert not drawn[35:85, 25:95].any() and not drawn[:25].any()


def test_mask_is_tinted_inside_and_the_input_left_alone():
    crop = np.ones((20, 30), dtype=bool)
    drawn = draw_masks(GREY, [(crop, (40, 50))], RED)
    assert changed(drawn)[50:70, 40:70].all()
    assert not changed(drawn)[:45].any() and not changed(drawn)[80:].any()
    assert drawn[60, 55, 0] > 128 > drawn[60, 55, 1]
    assert not changed(GREY).any()


def test_holes_stay_open():
    crop = np.ones((40, 40), dtype=bool)
    crop[15:25, 15:25] = False
    drawn = changed(draw_masks(GREY, [(crop, (0, 0))], RED))
    assert not drawn[18:22, 18:22].any()


@pytest.mark.parametrize("box", [[20.0, 60.0, 90.0, 100.0], [0.0, 0.0, 150.0, 110.0]])
def test_label_is_written_inside_the_image(box):
    drawn = draw_labels(GREY, np.array([box]), ["person: 0.99"], RED)
    assert drawn.shape == GREY.shape
    assert (drawn == RED[0]).all(axis=-1).sum() > 100


def test_long_label_at_the_right_edge_is_moved_inside():
    drawn = draw_labels(GREY, np.array([[150.0, 60.0, 159.0, 90.0]]), ["person: 0.99"], RED)
    assert (drawn == RED[0]).all(axis=-1)[:, :140].any()


def test_labels_of_a_crowd_do_not_hide_each_other():
    boxes = np.array([[40.0, 50, 80, 100], [42, 50, 82, 100], [44, 50, 84, 100], [46, 52, 90, 104]])
    sizes = np.tile([40.0, 12.0], (4, 1))
    low = place_labels(boxes, sizes, (160, 120))
    high = low + sizes
    assert (low[0] == [40, 38]).all()  # above its corner, as if alone
    shared = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    hidden = shared.clip(min=0).prod(axis=2)[np.triu_indices(4, 1)]
    assert hidden.max() == 0
    assert (low >= 0).all() and (high <= [160, 120]).all()


def test_the_first_label_lies_above_those_that_found_no_place():
    boxes = np.tile([0.0, 0, 20, 20], (30, 1))
    small, colors = GREY[:20, :50], np.full((30, 3), 10, np.uint8)
    colors[0] = RED
    drawn = draw_labels(small, boxes, ["cat"] * 30, colors)
    alone = draw_labels(small, boxes[:1], ["cat"], RED)
    first = (alone != small).any(axis=-1)
    np.testing.assert_array_equal(drawn[first], alone[first])


def test_labels_are_not_bound_to_english(caplog):
    pytest.importorskip("matplotlib")  # comes with a font that has more letters
    box = np.array([[20.0, 60, 90, 100]])
    pictures = [draw_labels(GREY, box, [text], RED) for text in ("K\xe4fer", "K\xe9fer", "Жук")]
    assert (pictures[0] != pictures[1]).any() and (pictures[1] != pictures[2]).any()
    assert not caplog.records
    assert draw_labels(GREY, box, ["\ue123"], RED).shape == GREY.shape  # a letter of no script
    assert "no font at hand" in caplog.text


def test_largest_objects_come_first():
    assert largest_first(np.array([[0, 0, 1, 1], [0, 0, 5, 5], [2, 2, 4, 4.0]])).tolist() == [
        1,
        2,
        0,
    ]


def test_lines_and_letters_grow_with_the_image():
    large = np.zeros((3000, 4000, 3), dtype=np.uint8)
    assert line_width(large) == 12 * line_width(np.zeros((250, 400, 3)))
    assert font_size(large) > 4 * font_size(np.zeros((480, 640, 3)))


def test_keypoints_with_low_scores_are_left_out():
    points = np.array([[[20, 20, 1], [60, 20, 1], [20, 100, 1]]], dtype=np.float32)
    scores = np.array([[5.0, 5.0, 0.0]])
    drawn = changed(draw_keypoints(GREY, points, [(0, 1), (0, 2)], RED, scores=scores))
    assert drawn[20, 20:60].all()
    assert not drawn[60:].any()


def test_skeletons_are_finer_on_smaller_people():
    image = np.full((1200, 1600, 3), 128, np.uint8)
    line = np.array([[0, 0, 1], [1, 0, 1]], dtype=np.float64)
    large, small = line * [800, 1, 1] + [100, 600, 0], line * [60, 1, 1] + [100, 600, 0]
    rows = [
        (draw_keypoints(image, points[None], [(0, 1)], RED)[:, 130] != 128).any(axis=-1).sum()
        for points in (large, small)
    ]
    assert rows[0] > rows[1] > 0 and rows[0] > line_width(image)


def predictions(mask):
    boxes = BoxList([[30.2, 40.7, 90.5, 100.1]], (160, 120))
    boxes.add_field("mask", mask)
    return boxes


def test_crops_of_probabilities_equal_the_whole_pasted_image():
    from maskrcnn_lib.layers import paste_masks

    mask = torch.rand(1, 1, 28, 28)
    for aligned in (False, True):
        found = predictions(mask)
        whole = paste_masks(mask, found.bbox, (120, 160), aligned=aligned)[0].numpy()
        rebuilt = np.zeros_like(whole)
        ((crop, (x, y)),) = instance_crops(found, paste=PasteRule(aligned))
        rebuilt[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        # a window moves the box by whole pixels; only values at the threshold may fall otherwise
        assert (rebuilt != whole).sum() <= 2
        assert whole.any()


def test_crops_of_bitmaps_are_cut_out():
    bitmap = torch.zeros(1, 1, 120, 160, dtype=torch.bool)
    bitmap[..., 50:90, 40:80] = True
    ((crop, (x, y)),) = instance_crops(predictions(bitmap))
    assert crop.sum() == 40 * 40
    assert crop[50 - y, 40 - x] and not crop[49 - y, 40 - x]


def test_heat_map_runs_from_blue_over_green_to_red():
    low, middle, high = heat_map(np.array([[0.1, 0.5, 0.9]]))[0].tolist()
    assert (
        low.index(max(low)) == 2 and middle.index(max(middle)) == 1 and high.index(max(high)) == 0
    )


def test_montage_places_tiles_by_rows_and_fills_with_black():
    tiles = [np.full((2, 3), value, dtype=np.uint8) for value in (1, 2, 3)]
    grid = montage(tiles, 2)
    assert grid[::2, ::3].tolist() == [[1, 2], [3, 0]]
    with pytest.raises(ValueError, match="1 to 4"):
        montage(tiles * 2, 2)


def test_mask_montage_is_hot_where_the_mask_is():
    mask = torch.zeros(1, 1, 28, 28)
    mask[..., 7:21, 7:21] = 1.0
    picture = mask_montage(GREY, predictions(mask), 1)
    centre, outside = picture[70, 60].astype(int), picture[10, 10].astype(int)
    assert centre[0] > centre[2] and outside[2] > outside[0]
    bitmap = torch.zeros(1, 1, 120, 160, dtype=torch.bool)
    bitmap[..., 60:80, 50:70] = True
    assert mask_montage(GREY, predictions(bitmap), 2).shape == (120, 160, 3)
