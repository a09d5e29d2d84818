"""Annotated images and pages of images."""

import numpy as np
import pytest
import torch

from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.keypoint import Keypoints, Skeleton
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask
from maskrcnn_lib.visualization.colors import instance_colors
from maskrcnn_lib.visualization.pages import draw_found, draw_target, image_page


def target(labels, mode="poly"):
    boxes = [[10.0, 20, 60, 80], [100, 100, 150, 140]][: len(labels)]
    result = BoxList(torch.tensor(boxes).reshape(-1, 4), (200, 150))
    result.add_field("labels", torch.tensor(labels, dtype=torch.int64))
    polygons = [[[x1, y1, x2, y1, x2, y2, x1, y2]] for x1, y1, x2, y2 in boxes]
    result.add_field("masks", SegmentationMask(polygons, (200, 150), mode))
    return result


@pytest.mark.parametrize("mode", ["poly", "mask"])
def test_objects_of_one_class_are_tinted_with_different_colours(mode):
    image = np.full((150, 200, 3), 128, np.uint8)
    drawn = draw_target(image, target([1, 1], mode), ["__background__", "cat"])
    assert drawn.shape == image.shape and (image == 128).all()
    colors = instance_colors(target([1, 1]).bbox.numpy()).astype(float)
    assert (colors[0] != colors[1]).any()
    for (x, y), color in zip([(50, 70), (140, 130)], colors, strict=True):
        expected = 0.6 * 128 + 0.4 * color
        assert np.abs(drawn[y, x] - expected).max() <= 1  # rounding
    assert (drawn[145, 5] == 128).all()


def with_points(objects):
    """The first object's three points, of which the last is not labelled."""
    line = Skeleton(("a", "b", "c"), connections=((0, 1), (1, 2)))
    points = torch.tensor([[[20.0, 50, 2], [50, 50, 2], [0, 0, 0]]])
    objects.add_field("keypoints", Keypoints(points, (200, 150), line))
    return objects


@pytest.mark.parametrize("size", [0, 400])
def test_key_points_of_targets_are_drawn_with_their_lines(size):
    image = np.full((150, 200, 3), 128, np.uint8)
    plain = draw_target(image, target([1]), ["", "cat"], size=size)
    drawn = draw_target(image, with_points(target([1])), ["", "cat"], size=size)
    changed = (drawn != plain).any(axis=-1)[:: 2 if size else 1, :: 2 if size else 1]
    assert changed[49:52, 20:51].any(axis=0).all()
    assert not changed[60:].any() and not changed[:40].any() and not changed[:, 60:].any()


def test_found_objects_carry_names_and_scores_and_sure_points():
    image = np.full((150, 200, 3), 128, np.uint8)
    found = target([1])
    found.add_field("scores", torch.tensor([0.9]))
    plain = draw_found(image, found, ["", "cat"])
    with_points(found).get_field("keypoints").add_field("logits", torch.tensor([[9.0, 1.0, 9.0]]))
    changed = (draw_found(image, found, ["", "cat"]) != plain).any(axis=-1)
    assert changed[50, 20] and not changed[:, 30:].any()  # no line to the point that is not sure
    assert draw_found(image, found, ["", "cat"], size=100).shape == (75, 100, 3)


@pytest.mark.parametrize(("size", "shape"), [(100, (75, 100, 3)), (400, (300, 400, 3))])
def test_size_is_that_of_the_longer_side(size, shape):
    image = np.zeros((150, 200, 3), np.uint8)
    assert draw_target(image, target([1, 2]), ["__background__"], size=size).shape == shape


def test_image_without_objects_stays_as_it_is():
    image = np.full((150, 200, 3), 128, np.uint8)
    assert np.array_equal(draw_target(image, target([]), []), image)


def test_page_places_images_in_rows_in_the_middle_of_their_cells():
    images = [np.full((10, 20, 3), 1, np.uint8), np.full((20, 10, 3), 2, np.uint8)]
    images.append(np.full((20, 20, 3), 3, np.uint8))
    page = image_page(images, columns=2)
    assert page.shape == (2 * 24 + 4, 2 * 24 + 4, 3)
    assert [int((page == i).all(-1).sum()) for i in (1, 2, 3)] == [200, 200, 400]
    assert page[14, 5, 0] == 1 and page[5, 5, 0] == 255
    assert page[5, 28 + 10, 0] == 2 and page[28 + 5, 5, 0] == 3
    assert image_page(images[:1]).shape == (18, 28, 3)


def test_page_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        image_page([])
