"""Pictures show what they should, where they should."""

import numpy as np
import pytest
import torch

from maskrcnn_lib.config.dialects import PasteRule
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.visualization.colors import class_colors
from maskrcnn_lib.visualization.crops import instance_crops
from maskrcnn_lib.visualization.draw import (
    draw_boxes,
    draw_keypoints,
    draw_labels,
    draw_masks,
    font_size,
    line_width,
)
from maskrcnn_lib.visualization.heat_maps import heat_map, mask_montage, montage

GREY = np.full((120, 160, 3), 128, dtype=np.uint8)
RED = np.array([[255, 0, 0]], dtype=np.uint8)


def changed(image):
    return (image != GREY).any(axis=-1)


def test_colors_are_fixed_per_class_and_differ_between_neighbours():
    colors = class_colors(np.arange(1, 81))
    np.testing.assert_array_equal(colors[4], class_colors(np.array([5]))[0])
    assert len({tuple(c) for c in colors.tolist()}) == 80


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


def test_lines_and_letters_grow_with_the_image():
    large = np.zeros((3000, 4000, 3), dtype=np.uint8)
    assert line_width(large) == 10 * line_width(np.zeros((300, 400, 3)))
    assert font_size(large) > 4 * font_size(np.zeros((480, 640, 3)))


def test_keypoints_with_low_scores_are_left_out():
    points = np.array([[[20, 20, 1], [60, 20, 1], [20, 100, 1]]], dtype=np.float32)
    scores = np.array([[5.0, 5.0, 0.0]])
    drawn = changed(draw_keypoints(GREY, points, [(0, 1), (0, 2)], scores=scores))
    assert drawn[20, 20:60].all()
    assert not drawn[60:].any()


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
