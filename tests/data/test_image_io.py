"""Image files of every kind become uint8 RGB, and damaged ones are named."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from maskrcnn_lib.data import image_io
from maskrcnn_lib.data.image_io import find_images, jpeg_header, read_image

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


@pytest.mark.parametrize("largest", [1.0, 255.0])
def test_floats_are_read_by_their_range(tmp_path, largest):
    Image.fromarray((RAMP / 255 * largest).astype(np.float32)).save(tmp_path / "a.tiff")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tiff")[..., 1], RAMP)


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


def test_directory_tells_what_it_leaves_out(tmp_path, caplog):
    for name in ("a.jpg", "._a.jpg", ".hidden.png", "b.txt", "c.txt", "notes"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    assert [p.name for p in find_images([tmp_path])] == ["a.jpg", "gone.jpg"]
    assert "left out: 2 .txt, 1 without suffix" in caplog.text
    caplog.clear()
    list(find_images([tmp_path], suffixes=[".jpg"]))
    assert not caplog.text


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jpg", b"", "the file is empty"),
        ("a.HEIC", b"\0\0\0\x20ftypheic", "does not read HEIC; convert it"),
        ("a.png", b"<html>", "begins with b'<html>'"),
    ],
)
def test_file_that_is_no_image_is_told_what_it_is(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read_image(tmp_path / name)


def test_source_without_images_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no image"):
        list(find_images([tmp_path]))
    with pytest.raises(FileNotFoundError, match="matches no file"):
        list(find_images([tmp_path / "*.png"]))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        list(find_images([tmp_path / "nowhere.png"]))


def _jpeg(path, image=COLOUR, **options):
    Image.fromarray(image).save(path, "JPEG", **options)
    return path


def _by_pillow(path):
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": 0},
        {"subsampling": 1},
        {"subsampling": 2},
        {"progressive": True},
        {"quality": 10},
        {"keep_rgb": True},
        {"comment": b"\xff\xc0\xff\xda in a comment"},
    ],
)
def test_jpeg_pixels_are_those_of_pillow(tmp_path, options, monkeypatch):
    path = _jpeg(tmp_path / "a.jpg", **options)
    monkeypatch.setattr(image_io, "_read_with_pillow", lambda path: pytest.fail("slow path"))
    np.testing.assert_array_equal(read_image(path), _by_pillow(path))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_is_turned_as_pillow_turns_it(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _jpeg(tmp_path / "a.jpg", exif=exif)
    image = read_image(path)
    np.testing.assert_array_equal(image, _by_pillow(path))
    assert image.flags.c_contiguous and image.flags.writeable


def test_grey_jpeg_repeats_its_channel(tmp_path):
    path = _jpeg(tmp_path / "a.jpg", RAMP)
    np.testing.assert_array_equal(read_image(path), _by_pillow(path))


def test_jpeg_is_read_without_torchvision(tmp_path, monkeypatch):
    path = _jpeg(tmp_path / "a.jpg")
    monkeypatch.setattr(image_io, "_jpeg_decoder", lambda: None)
    np.testing.assert_array_equal(read_image(path), _by_pillow(path))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_header_of_a_jpeg_bomb_is_refused_before_decoding(tmp_path):
    data = bytearray(_jpeg(tmp_path / "bomb.jpg").read_bytes())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xdc\xff\xdc"  # 65500 x 65500
    (tmp_path / "bomb.jpg").write_bytes(data)
    assert jpeg_header(np.frombuffer(data, np.uint8)) == (65500, 65500, 3)
    with pytest.raises(ValueError, match=r"bomb\.jpg is too large"):
        read_image(tmp_path / "bomb.jpg")


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8" + b"\xff" * 99])
def test_file_without_a_frame_has_no_jpeg_header(data):
    assert jpeg_header(np.frombuffer(data, np.uint8)) is None


def test_damaged_jpegs_give_an_image_or_an_error(tmp_path):
    data = _jpeg(tmp_path / "a.jpg").read_bytes()
    rng = np.random.default_rng(0)
    outcomes = {"image": 0, "error": 0}
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(2, len(data), 4):
            damaged[place] = rng.integers(256)
        (tmp_path / "b.jpg").write_bytes(damaged)
        try:
            image = read_image(tmp_path / "b.jpg")
        except ValueError as error:
            assert "b.jpg" in str(error)
            outcomes["error"] += 1
        else:
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
            outcomes["image"] += 1
    assert min(outcomes.values()) > 0


def test_real_photos_are_read_as_pillow_reads_them(test_data):
    photos = sorted((test_data / "coco_mini").rglob("*.jpg"))[::20]
    assert photos
    for path in photos:
        np.testing.assert_array_equal(read_image(path), _by_pillow(path))
