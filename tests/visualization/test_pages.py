"""Annotated images and pages of images."""

import numpy as np
import pytest
import torch

from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask
from maskrcnn_lib.visualization.colors import class_colors
from maskrcnn_lib.visualization.pages import draw_target, image_page


def target(labels, mode="poly"):
    boxes = [[10.0, 20, 60, 80], [100, 100, 150, 140]][: len(labels)]
    result = BoxList(torch.tensor(boxes).reshape(-1, 4), (200, 150))
    result.add_field("labels", torch.tensor(labels, dtype=torch.int64))
    polygons = [[[x1, y1, x2, y1, x2, y2, x1, y2]] for x1, y1, x2, y2 in boxes]
    result.add_field("masks", SegmentationMask(polygons, (200, 150), mode))
    return result


@pytest.mark.parametrize("mode", ["poly", "mask"])
def test_objects_are_tinted_with_the_colour_of_their_class(mode):
    image = np.full((150, 200, 3), 128, np.uint8)
    drawn = draw_target(image, target([1, 7], mode), ["__background__", "cat"])
    assert drawn.shape == image.shape and (image == 128).all()
    colors = class_colors(np.array([1, 7])).astype(float)
    for (x, y), color in zip([(50, 70), (140, 130)], colors, strict=True):
        expected = 0.6 * 128 + 0.4 * color
        assert np.abs(drawn[y, x] - expected).max() <= 1  # rounding
    assert (drawn[145, 5] == 128).all()


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
