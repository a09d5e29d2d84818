"""The size of an image file, from its header alone, and whether it is the one that is stated."""

from pathlib import Path

_ORIENTATION_TAG = 0x0112  # of EXIF
_TIFF_WIDTH, _TIFF_LENGTH = 256, 257
_QUARTER_TURNS = (5, 6, 7, 8)
# Where Pillow keeps EXIF data that a PNG file has before its pixels; for such as come after them
# it would decode the whole image.
_PNG_EXIF = ("exif", "Raw profile type exif")


def read_image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) of the image as ``read_image`` gives it: upright, after EXIF rotation.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not an image.
    """
    from PIL import Image

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no image file at {path}")
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.format == "TIFF":  # some versions of Pillow have turned its size already
                width, height = image.tag_v2[_TIFF_WIDTH], image.tag_v2[_TIFF_LENGTH]
            in_header = image.format != "PNG" or any(key in image.info for key in _PNG_EXIF)
            turned = in_header and image.getexif().get(_ORIENTATION_TAG) in _QUARTER_TURNS
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large to be read safely: {error}") from error
    except (OSError, SyntaxError, ValueError, EOFError, KeyError) as error:
        raise ValueError(f"cannot read image {path}: {error}") from error
    return (height, width) if turned else (width, height)


def check_image_size(
    path: str | Path, size: tuple[int, int], stated: tuple[int, int], source: str
) -> None:
    """Raises ValueError unless an image has the (width, height) that its annotations state.

    Args:
        path, size: of the image.
        source: what states the size.
    """
    if size == stated:
        return
    turned = size == (stated[1], stated[0])
    hint = "; were the annotations made without regard to its EXIF rotation?" if turned else ""
    raise ValueError(
        f"{path} is {size[0]} x {size[1]} pixels, but {source} states {stated[0]} x {stated[1]}"
        f"{hint}"
    )
