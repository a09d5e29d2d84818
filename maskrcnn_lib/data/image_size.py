"""The size of an image file, from its header alone."""

from pathlib import Path

_ORIENTATION_TAG = 0x0112  # of EXIF
_QUARTER_TURNS = (5, 6, 7, 8)


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
            turned = image.getexif().get(_ORIENTATION_TAG) in _QUARTER_TURNS
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large to be read safely: {error}") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ValueError(f"cannot read image {path}: {error}") from error
    return (height, width) if turned else (width, height)
