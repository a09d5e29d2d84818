"""Flips, crops and resizes keep image, boxes, masks and keypoints together."""

import numpy as np
import pytest
import torch

from maskrcnn_lib.data.transforms import (
    JointTransform,
    LargeScaleJitter,
    RandomCrop,
    RandomFlip,
    RandomShortSide,
    crop_sample,
)
from maskrcnn_lib.data.transforms.crop import visible_boxes
from maskrcnn_lib.data.transforms.image_transform import ImageTransform
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.keypoint import Keypoints
from maskrcnn_lib.structures.polygons import clip_polygon
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

HEIGHT, WIDTH = 60, 90
RECTANGLES = torch.tensor(
    [[0.0, 0, 90, 60], [5, 8, 30, 40], [40, 10, 80, 50], [20, 30, 70, 55], [84, 55, 86, 57]]
)


def scene(mode="poly"):
    """Rectangles whose number is their colour, drawn where their boxes and masks say."""
    image = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    polygons = []
    for number, (x1, y1, x2, y2) in enumerate(RECTANGLES.int().tolist(), start=1):
        polygons.append([[x1, y1, x2, y1, x2, y2, x1, y2]])
        image[y1:y2, x1:x2] = number
    target = BoxList(RECTANGLES.clone(), (WIDTH, HEIGHT))
    target.add_field("labels", torch.arange(1, len(RECTANGLES) + 1))
    target.add_field("masks", SegmentationMask(polygons, (WIDTH, HEIGHT), mode))
    corners = torch.stack((RECTANGLES[:, :2], RECTANGLES[:, 2:]), dim=1)
    points = torch.cat((corners, torch.full((len(RECTANGLES), 2, 1), 2.0)), dim=2)
    target.add_field("keypoints", Keypoints(points, (WIDTH, HEIGHT)))
    return image, target


def assert_boxes_surround_masks(target):
    masks = target.get_field("masks").convert("mask")
    torch.testing.assert_close(target.bbox, visible_boxes(masks), rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["poly", "mask"])
@pytest.mark.parametrize(("horizontal", "vertical"), [(1, 0), (0, 1), (1, 1)])
def test_flip_moves_everything_alike_and_twice_is_identity(mode, horizontal, vertical):
    image, target = scene(mode)
    flip = RandomFlip(horizontal=horizontal, vertical=vertical)
    rng = np.random.default_rng(0)
    flipped, moved = flip(image, target, rng)
    assert flipped[0 if not vertical else -1, 0 if not horizontal else -1].tolist() == (
        image[0, 0].tolist()
    )
    assert_boxes_surround_masks(moved)
    back, restored = flip(flipped, moved, rng)
    np.testing.assert_array_equal(back, image)
    torch.testing.assert_close(restored.bbox, target.bbox)
    torch.testing.assert_close(
        restored.get_field("keypoints").keypoints, target.get_field("keypoints").keypoints
    )


def test_flip_probability_of_zero_and_of_a_half():
    image, target = scene()
    rng = np.random.default_rng(0)
    assert RandomFlip(horizontal=0.0)(image, target, rng)[0] is image
    flip = RandomFlip(horizontal=0.5)
    count = sum(flip(image, target, rng)[1].bbox[1, 0] != 5 for _ in range(400))
    assert 150 < count < 250  # five standard deviations of 400 fair draws are 50


@pytest.mark.parametrize("mode", ["poly", "mask"])
def test_crop_keeps_what_is_visible(mode):
    image, target = scene(mode)
    cropped, objects = crop_sample(image, target, (25, 5, 75, 45))
    np.testing.assert_array_equal(cropped, image[5:45, 25:75])
    assert objects.size == (50, 40)
    assert objects.get_field("labels").tolist() == [1, 2, 3, 4]  # number 5 lies outside
    expected = [[0, 0, 50, 40], [0, 3, 5, 35], [15, 5, 50, 40], [0, 25, 45, 40]]
    assert objects.bbox.tolist() == expected
    assert_boxes_surround_masks(objects)


@pytest.mark.parametrize("mode", ["poly", "mask"])
def test_box_of_a_cut_object_shrinks_to_its_visible_mask(mode):
    # an L: its arm on the right is thin, and only that is in the window
    polygon = [0, 0, 100, 0, 100, 10, 20, 10, 20, 80, 0, 80]
    target = BoxList([[0.0, 0, 100, 80]], (100, 80))
    target.add_field("masks", SegmentationMask([[polygon]], (100, 80), mode))
    _, objects = crop_sample(np.zeros((80, 100, 3), np.uint8), target, (50, 0, 100, 80))
    assert objects.bbox.tolist() == [[0, 0, 50, 10]]
    _, objects = crop_sample(np.zeros((80, 100, 3), np.uint8), target, (50, 20, 100, 80))
    assert len(objects) == 0  # the box reaches into the window, the object does not


def test_crop_without_masks_clips_the_boxes():
    target = BoxList([[0.0, 0, 50, 50], [60, 60, 70, 70]], (100, 100))
    target.add_field("labels", torch.tensor([1, 2]))
    _, objects = crop_sample(np.zeros((100, 100, 3), np.uint8), target, (40, 45, 65, 62))
    assert objects.bbox.tolist() == [[0, 0, 10, 5], [20, 15, 25, 17]]


def test_tiny_object_that_no_crop_cuts_stays():
    target = BoxList([[10.0, 10, 10.5, 10.25]], (100, 100))
    _, objects = crop_sample(np.zeros((100, 100, 3), np.uint8), target, (0, 0, 50, 50))
    assert objects.bbox.tolist() == [[10, 10, 10.5, 10.25]]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
def test_clipped_polygons_cover_the_pixels_of_the_cut_bitmap():
    from pycocotools import mask as mask_api

    def bitmap(polygon, height, width):
        rle = mask_api.merge(mask_api.frPyObjects([polygon.reshape(-1).tolist()], height, width))
        return mask_api.decode(rle).astype(bool)

    rng = np.random.default_rng(0)
    different = []
    for _ in range(200):
        # convex and star-shaped polygons around a centre near the window 0..40 x 0..30
        angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
        radii = rng.uniform(5, 25, 12)
        centre = rng.uniform(0, 1, 2) * (40, 30)
        polygon = centre + np.stack((np.cos(angles), np.sin(angles)), 1) * radii[:, None]
        clipped = clip_polygon(polygon, (0, 0), (40, 30))
        whole = bitmap(polygon + 40, 120, 120)[40:70, 40:80]
        part = bitmap(clipped, 30, 40) if len(clipped) > 2 else np.zeros((30, 40), bool)
        different.append((whole != part).sum())
        assert (clipped >= -1e-9).all() and (clipped <= (40 + 1e-9, 30 + 1e-9)).all()
    # pycocotools rounds corners to fifths of a pixel, and clipping makes new ones: outlines differ
    assert max(different) <= 8 and np.mean(different) < 1


def test_random_crop_shows_an_object_and_keeps_its_share():
    image, target = scene()
    target = target[4:]  # the tiny one in a corner
    crop = RandomCrop(probability=1.0, min_share=0.5)
    rng = np.random.default_rng(0)
    for _ in range(50):
        cropped, objects = crop(image, target, rng)
        assert len(objects) == 1
        assert cropped.shape[0] >= HEIGHT / 2 and cropped.shape[1] >= WIDTH / 2
        assert objects.size == (cropped.shape[1], cropped.shape[0])


def test_random_crop_of_an_image_without_objects():
    image, target = scene()
    cropped, objects = RandomCrop(probability=1.0, min_share=0.3)(
        image, target[:0], np.random.default_rng(1)
    )
    assert cropped.size < image.size and len(objects) == 0


def test_sizes_of_a_choice_are_drawn_equally_and_capped():
    image, target = scene()
    sizing = RandomShortSide((30, 40, 120), 150, rule="round")
    rng = np.random.default_rng(0)
    sizes = [sizing(image, target, rng)[2] for _ in range(600)]
    # the short side of 120 would make the long one 180: 150 x 100 instead
    assert set(sizes) == {(30, 45), (40, 60), (100, 150)}
    assert all(130 < sizes.count(size) < 270 for size in set(sizes))


def test_sizes_of_a_range_are_all_drawn():
    image, target = scene()
    sizing = RandomShortSide((30, 40), 0, sampling="range", rule="round")
    rng = np.random.default_rng(0)
    assert {sizing(image, target, rng)[2][0] for _ in range(500)} == set(range(30, 41))
    with pytest.raises(ValueError, match="smallest, largest"):
        RandomShortSide((30, 40, 50), 0, sampling="range", rule="round")


def test_large_scale_jitter_fits_the_square_and_agrees_with_resizing_first():
    image, target = scene()
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(100):
        cropped, objects, (height, width) = LargeScaleJitter(64)(image, target, rng)
        assert 1 <= height <= 64 and 1 <= width <= 64
        factor = (width / cropped.shape[1], height / cropped.shape[0])
        # the two factors differ by the rounding of each side to whole pixels only
        assert abs(factor[0] * cropped.shape[1] - factor[1] * cropped.shape[1]) <= 2 + factor[0] * 2
        assert objects.size == (cropped.shape[1], cropped.shape[0])
        areas.append(height * width)
    assert min(areas) < 400 and max(areas) == 64 * 64


def test_large_scale_jitter_of_scale_one_keeps_the_whole_image():
    image, target = scene()
    cropped, objects, size = LargeScaleJitter(180, scales=(1.0, 1.0))(
        image, target, np.random.default_rng(0)
    )
    assert cropped.shape == image.shape and size == (120, 180) and len(objects) == len(target)


def test_joint_transform_scales_objects_with_the_pixels():
    image, target = scene()
    transform = JointTransform(
        [RandomFlip(horizontal=1.0)],
        sizing=RandomShortSide([120], 0, rule="round"),
        image_transform=ImageTransform(
            min_size=1,
            max_size=0,
            mean=[0] * 3,
            std=[1] * 3,
            to_bgr255=True,
            resize="antialias",
            output_size="round",
        ),
    )
    pixels, objects = transform(image, target, np.random.default_rng(0))
    assert pixels.shape == (3, 120, 180) and objects.size == (180, 120)
    x1, y1, x2, y2 = objects.bbox[3].int().tolist()  # the one that nothing covers
    inside = pixels[0, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2]
    assert (inside == 4).all() and inside.numel() > 1000
    assert (pixels[0, y1 + 2 : y2 - 2, x2 + 2] != 4).all()
