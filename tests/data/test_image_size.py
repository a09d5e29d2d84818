"""Sizes from headers agree with the images as they are read."""

import numpy as np
import pytest
from PIL import Image

from maskrcnn_lib.data.image_io import read_image
from maskrcnn_lib.data.image_size import read_image_size


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", [None, 1, 2, 3, 4, 5, 6, 7, 8])
def test_size_is_that_of_the_upright_image(tmp_path, suffix, orientation):
    path = tmp_path / f"image.{suffix}"
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    image = read_image(path)
    assert read_image_size(path) == (image.shape[1], image.shape[0])


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_header_is_enough(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    assert read_image_size(path) == (120, 90)


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg"):
        read_image_size(tmp_path / "nowhere.jpg")
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.jpg"):
        read_image_size(tmp_path / "text.jpg")
