"""Colours change within the limits, by the sample's own generator, and the objects stay."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from maskrcnn_lib.data.transforms import ColorJitter
from maskrcnn_lib.structures.bounding_box import BoxList

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
TARGET = BoxList([[1.0, 2, 3, 4]], (50, 40))


class Fixed:
    """A generator that draws the largest value and keeps the order."""

    def uniform(self, low, high):
        return high

    def permutation(self, names):
        return names


@pytest.mark.parametrize(
    ("name", "enhance"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_full_strength_is_what_pillow_makes_of_it(name, enhance):
    ours, target = ColorJitter(**{name: 0.4})(IMAGE, TARGET, Fixed())
    expected = np.asarray(enhance(Image.fromarray(IMAGE)).enhance(1.4)).astype(int)
    # Pillow rounds greys to whole levels before it blends: up to 1 level times 1.4
    assert np.abs(ours - expected).max() <= 2
    assert target is TARGET


def test_hue_keeps_brightest_and_darkest_channel():
    ours, _ = ColorJitter(hue=0.3)(IMAGE, TARGET, np.random.default_rng(0))
    assert not np.array_equal(ours, IMAGE)
    # value and saturation of HSV stay: largest and smallest channel, up to rounding
    assert np.abs(ours.max(axis=2).astype(int) - IMAGE.max(axis=2)).max() <= 1
    assert np.abs(ours.min(axis=2).astype(int) - IMAGE.min(axis=2)).max() <= 1


def test_same_generator_gives_the_same_colours_and_the_next_draw_others():
    jitter = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    rng = np.random.default_rng(5)
    first, second = jitter(IMAGE, TARGET, rng)[0], jitter(IMAGE, TARGET, rng)[0]
    again = jitter(IMAGE, TARGET, np.random.default_rng(5))[0]
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)
    assert first.dtype == np.uint8 and first.flags.c_contiguous


def test_without_amounts_nothing_changes():
    assert ColorJitter()(IMAGE, TARGET, np.random.default_rng(0))[0] is IMAGE


@pytest.mark.parametrize("amounts", [{"brightness": -0.1}, {"hue": 0.6}])
def test_impossible_amount_is_named(amounts):
    with pytest.raises(ValueError, match=next(iter(amounts))):
        ColorJitter(**amounts)
