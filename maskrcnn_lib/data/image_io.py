"""Reading image files of every common kind into one form: uint8 RGB.

Pillow reads the files. EXIF rotation is applied; greyscale, palette, CMYK and RGBA images become
RGB (transparency is dropped, as the older toolboxes did); 16-bit images keep their high byte.
"""

from collections.abc import Iterable, Iterator
from glob import glob, has_magic
from pathlib import Path

import numpy as np

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

# Modes in which Pillow holds one channel of more than eight bits.
_DEEP_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N", "F"})


def read_image(path: str | Path) -> np.ndarray:
    """Reads an image file.

    Args:
        path: file in any format that Pillow reads; of an animation the first frame is taken.

    Returns:
        (H, W, 3) uint8 array, RGB, upright.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not an image, or is damaged; the message names it.
    """
    from PIL import Image, ImageOps

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no image file at {path}")
    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode in _DEEP_MODES:
                image = Image.fromarray(_to_eight_bits(np.asarray(image)))
            elif image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")
            # np.array copies, so that the result is writable
            return np.array(image.convert("RGB"))
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large to be read safely: {error}") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        # Pillow reports damaged files with any of these
        raise ValueError(f"cannot read image {path}: {error}") from error


def _to_eight_bits(deep: np.ndarray) -> np.ndarray:
    """Maps one deep channel to uint8: by the bit depth for integers, by the range for floats."""
    if deep.dtype.kind == "f":
        low, high = float(deep.min()), float(deep.max())
        if 0.0 <= low and high <= 1.0:
            return np.round(deep * 255.0).astype(np.uint8)
        return np.clip(np.round(deep), 0, 255).astype(np.uint8)
    if deep.max(initial=0) <= 255:
        return np.clip(deep, 0, 255).astype(np.uint8)
    return (np.clip(deep, 0, 65535).astype(np.int64) >> 8).astype(np.uint8)


def find_images(sources: Iterable[str | Path], suffixes: Iterable[str] = ()) -> Iterator[Path]:
    """Expands files, directories and glob patterns into image files, each directory sorted.

    Args:
        sources: a file is yielded whatever its suffix; a directory yields the images directly
            inside it; a pattern (``*``, ``?``, ``[``, ``**``) yields its matches.
        suffixes: restricts what directories yield, for example ``(".jpg",)``; by default the
            common image formats.

    Raises:
        FileNotFoundError: a source does not exist, or matches no image.
    """
    wanted = frozenset(suffix.lower() for suffix in suffixes) or IMAGE_SUFFIXES
    for source in sources:
        path = Path(source)
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in wanted and p.is_file())
            if not found:
                raise FileNotFoundError(
                    f"directory {path} holds no image ({', '.join(sorted(wanted))})"
                )
            yield from found
        elif path.exists():
            yield path
        elif has_magic(str(source)):
            matches = sorted(Path(p) for p in glob(str(source), recursive=True))
            found = [p for p in matches if p.is_file()]
            if not found:
                raise FileNotFoundError(f"pattern {source!s} matches no file")
            yield from found
        else:
            raise FileNotFoundError(f"no image, directory or pattern match at {source!s}")
