"""Resizing and normalising agree with the toolboxes whose conventions they follow."""

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn_lib.data.transforms import ImageTransform, resized_size

IMAGE = np.random.default_rng(0).integers(0, 256, (97, 143, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "min_size", "max_size", "expected"),
    [
        # hand-computed after maskrcnn-benchmark's rule
        (480, 640, 800, 1333, (800, 1066)),  # 1066.67 truncated
        (640, 480, 800, 1333, (1066, 800)),
        (427, 640, 800, 1333, (800, 1199)),  # 1199.06
        (300, 1000, 800, 1333, (400, 1333)),  # long side decides: 399.9 -> 400
        (800, 900, 800, 1333, (800, 900)),
    ],
)
def test_legacy_size_truncates_the_long_side(height, width, min_size, max_size, expected):
    size = resized_size(height, width, min_size=min_size, max_size=max_size, rule="truncate_long")
    assert size == expected


@pytest.mark.parametrize("shape", [(480, 640), (427, 640), (333, 500), (300, 1000), (97, 143)])
def test_torchvision_size_and_pixels(shape):
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    reference = GeneralizedRCNNTransform(200, 333, mean, std, size_divisible=1)
    tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    expected = reference([tensor])[0].tensors[0]
    ours = ImageTransform(
        min_size=200,
        max_size=333,
        mean=mean,
        std=std,
        to_bgr255=False,
        resize="float",
        output_size="floor",
    )(image)
    assert ours.shape == expected.shape
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("min_size", [61, 97, 160])
def test_antialiased_resize_equals_pillow_up_to_one_grey_level(min_size):
    transform = ImageTransform(
        min_size=min_size,
        max_size=0,
        mean=[0, 0, 0],
        std=[1, 1, 1],
        to_bgr255=True,
        resize="antialias",
        output_size="truncate_long",
    )
    ours = transform(IMAGE).flip(0).permute(1, 2, 0).numpy()
    height, width = ours.shape[:2]
    expected = np.asarray(Image.fromarray(IMAGE).resize((width, height), Image.BILINEAR))
    difference = np.abs(ours - expected)
    # both round 8-bit fixed-point sums, in different order
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01


def test_align_corners_keeps_the_corner_pixels():
    transform = ImageTransform(
        min_size=194,
        max_size=0,
        mean=[10, 20, 30],
        std=[1, 2, 4],
        to_bgr255=True,
        resize="align_corners",
        output_size="floor",
    )
    ours = transform(IMAGE)
    corner = (IMAGE[-1, -1, ::-1].astype(np.float64) - [10, 20, 30]) / [1, 2, 4]
    assert ours.shape == (3, 194, 286)
    np.testing.assert_allclose(ours[:, -1, -1].numpy(), corner, rtol=1e-5)


def test_short_side_loses_at_most_one_pixel_to_rounding():
    for short in range(1, 700):
        size = resized_size(short, 2 * short, min_size=320, max_size=0, rule="floor")
        assert size[0] in (319, 320)


@pytest.mark.parametrize("rule", ["truncate_long", "floor", "round"])
def test_strip_is_refused_before_it_fills_the_memory(rule):
    with pytest.raises(
        ValueError, match=r"10000 x 1 pixels .* 3200000 x 320.*INPUT\.MAX_SIZE_TEST"
    ):
        resized_size(1, 10000, min_size=320, max_size=0, rule=rule)
    assert max(resized_size(1, 10000, min_size=320, max_size=1333, rule=rule)) <= 10000
    large = resized_size(20000, 20000, min_size=20000, max_size=0, rule=rule)  # not enlarged
    assert large == (20000, 20000)


def test_wrong_input_is_named():
    transform = ImageTransform(
        min_size=10,
        max_size=0,
        mean=[0] * 3,
        std=[1] * 3,
        to_bgr255=True,
        resize="antialias",
        output_size="round",
    )
    with pytest.raises(ValueError, match="uint8"):
        transform(IMAGE.astype(np.float32))
    with pytest.raises(ValueError, match="must have pixels"):
        transform(IMAGE[:0])
