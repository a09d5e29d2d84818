"""Image files of every kind become uint8 RGB, and damaged ones are named."""

import numpy as np
import pytest
from PIL import Image

from maskrcnn_lib.data.image_io import find_images, read_image

RAMP = np.add.outer(np.arange(20), np.arange(30)).astype(np.uint8) * 4
COLOUR = np.stack([RAMP, RAMP[::-1], np.full_like(RAMP, 90)], axis=-1)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_rgb_file_round_trips(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(COLOUR).save(path, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(read_image(path), COLOUR)


def test_grey_image_repeats_its_channel(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.stack([RAMP] * 3, -1))


def test_sixteen_bit_image_keeps_its_high_byte(tmp_path):
    deep = RAMP.astype(np.uint16) * 256 + 17
    Image.fromarray(deep).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 0], RAMP)


def test_palette_image_with_transparency_gives_its_colours(tmp_path):
    indexed = Image.fromarray(COLOUR).quantize(8)
    indexed.save(tmp_path / "a.png", transparency=0)
    expected = np.asarray(indexed.convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected)


def test_rgba_image_drops_alpha(tmp_path):
    alpha = np.concatenate([COLOUR, RAMP[..., None]], axis=-1)
    Image.fromarray(alpha, mode="RGBA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), COLOUR)


def test_cmyk_jpeg_is_close_to_its_rgb_original(tmp_path):
    Image.fromarray(COLOUR).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    difference = np.abs(read_image(tmp_path / "a.jpg").astype(int) - COLOUR)
    # JPEG at quality 95 moves a smooth ramp by a few grey levels only
    assert difference.mean() < 4


def test_exif_rotation_is_applied(tmp_path):
    image = Image.fromarray(COLOUR)
    exif = image.getexif()
    exif[0x0112] = 6  # stored rotated; to be shown turned by 90 degrees clockwise
    image.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(COLOUR, k=-1))


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "broken.jpg"
    if content is None:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)).save(
            path
        )
        content = path.read_bytes()[:3000]  # truncated
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.jpg"):
        read_image(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        read_image(tmp_path / "gone.png")


def test_directories_files_and_patterns_expand_in_order(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.txt", "c.jpg"):
        (tmp_path / name).write_bytes(b"x")
    names = [p.name for p in find_images([tmp_path])]
    assert names == ["a.PNG", "b.jpg", "c.jpg"]
    assert [p.name for p in find_images([tmp_path / "*.jpg"])] == ["b.jpg", "c.jpg"]
    assert [p.name for p in find_images([tmp_path / "notes.txt"])] == ["notes.txt"]
    assert [p.name for p in find_images([tmp_path], suffixes=[".jpg"])] == ["b.jpg", "c.jpg"]


def test_source_without_images_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no image"):
        list(find_images([tmp_path]))
    with pytest.raises(FileNotFoundError, match="matches no file"):
        list(find_images([tmp_path / "*.png"]))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        list(find_images([tmp_path / "nowhere.png"]))
