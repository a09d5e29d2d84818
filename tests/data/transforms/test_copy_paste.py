"""Pasted objects hide what lies below, in the pixels as in the masks."""

import numpy as np
import pytest
import torch

from maskrcnn_lib.data.transforms import CopyPaste
from maskrcnn_lib.data.transforms.crop import visible_boxes
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

BELOW, ABOVE = 50, 200  # colours of the two images' objects


def scene(boxes, size, colour, mode="poly"):
    """Rectangles of one colour on black; labels are ``colour`` plus their number."""
    width, height = size
    image = np.zeros((height, width, 3), dtype=np.uint8)
    polygons = []
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = colour
        polygons.append([[x1, y1, x2, y1, x2, y2, x1, y2]])
    target = BoxList(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), size)
    target.add_field("labels", torch.arange(len(boxes)) + colour)
    target.add_field("masks", SegmentationMask(polygons, size, mode))
    return image, target


BOXES = [[5, 5, 45, 35], [50, 20, 95, 75], [10, 50, 40, 70]]


@pytest.mark.parametrize("mode", ["poly", "mask"])
@pytest.mark.parametrize("other_mode", ["poly", "mask"])
def test_masks_say_which_object_each_pixel_shows(mode, other_mode):
    image, target = scene(BOXES, (100, 80), BELOW, mode)
    other_image, other = scene([[10, 5, 50, 50], [55, 30, 70, 55]], (75, 60), ABOVE, other_mode)
    paste = CopyPaste(probability=1.0, scales=(0.3, 1.5))
    rng = np.random.default_rng(0)
    hidden = 0
    for _ in range(40):
        result, objects = paste(image, target, other_image, other, rng)
        masks = objects.get_field("masks").get_mask_tensor()
        is_above = objects.get_field("labels") >= ABOVE
        above, below = masks[is_above].any(dim=0), masks[~is_above].any(dim=0)
        assert not (above & below).any()
        shown = torch.from_numpy(result[..., 0].astype(int))
        # resizing blends the outlines of pasted objects with the black around them
        assert (shown[below] == BELOW).all()
        assert (shown[above] > ABOVE - 120).float().mean() > 0.9
        assert ((shown > 0) & ~above & ~below).sum() < 10  # what is left of dropped objects
        # a pasted polygon is not on the pixel grid; turned into a bitmap it is
        expected = visible_boxes(objects.get_field("masks"))
        torch.testing.assert_close(objects.bbox, expected, rtol=0, atol=0.5)
        assert objects.get_field("masks").mode == mode
        hidden += len(target) - int((~is_above).sum())
    assert hidden > 0  # some were hidden altogether, and left out


def test_inputs_stay_as_they_were():
    image, target = scene(BOXES, (100, 80), BELOW)
    other_image, other = scene(BOXES, (100, 80), ABOVE)
    copies = image.copy(), target.bbox.clone(), other_image.copy(), other.bbox.clone()
    for seed in range(5):
        CopyPaste(probability=1.0)(image, target, other_image, other, np.random.default_rng(seed))
    np.testing.assert_array_equal(image, copies[0])
    np.testing.assert_array_equal(other_image, copies[2])
    assert torch.equal(target.bbox, copies[1]) and torch.equal(other.bbox, copies[3])


def test_polygons_that_nothing_hides_stay_exactly():
    polygon = [[10.25, 10.5, 30.75, 12.125, 20.0, 30.0]]
    target = BoxList([[10.25, 10.5, 30.75, 30.0], [60, 50, 95, 78]], (100, 80))
    target.add_field("labels", torch.tensor([1, 2]))
    masks = SegmentationMask([polygon, [[60, 50, 95, 50, 95, 78, 60, 78]]], (100, 80))
    target.add_field("masks", masks)
    paste = CopyPaste(probability=1.0, scales=(1.0, 1.0))
    # the only object to paste lies where the second one is, mirrored or not
    other_image, other = scene([[0, 60, 100, 70]], (100, 80), ABOVE)
    image = np.zeros((80, 100, 3), dtype=np.uint8)
    _, objects = paste(image, target, other_image, other, np.random.default_rng(0))
    assert objects.get_field("labels").tolist() == [1, 2, ABOVE]
    kept = objects.get_field("masks").instances.polygons[0].polygons[0]
    assert kept.tolist() == polygon[0]
    assert objects.bbox[0].tolist() == target.bbox[0].tolist()
    cut = objects.get_field("masks").get_mask_tensor()[1]
    assert cut.sum() == 35 * (28 - 10)


def test_image_without_objects_receives_some():
    image, target = scene(BOXES, (100, 80), BELOW)
    other_image, other = scene(BOXES, (100, 80), ABOVE)
    empty = target[:0].copy_with_fields(["labels"])
    result, objects = CopyPaste(probability=1.0, scales=(1.0, 1.0))(
        np.zeros_like(image), empty, other_image, other, np.random.default_rng(0)
    )
    assert len(objects) > 0 and (result == ABOVE).any()


@pytest.mark.parametrize("lacking", ["objects", "masks"])
def test_without_masks_or_objects_nothing_is_pasted(lacking):
    image, target = scene(BOXES, (100, 80), BELOW)
    other_image, other = scene(BOXES, (100, 80), ABOVE)
    other = other[:0] if lacking == "objects" else other.copy_with_fields(["labels"])
    result = CopyPaste(probability=1.0)(image, target, other_image, other, np.random.default_rng(0))
    assert result[0] is image and result[1] is target


def test_share_of_pasted_samples_is_the_probability():
    paste = CopyPaste(probability=0.3)
    rng = np.random.default_rng(0)
    drawn = sum(paste.is_drawn(rng) for _ in range(1000))
    assert abs(drawn - 300) < 73  # five standard deviations
