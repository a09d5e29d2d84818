"""Reading image files of every common kind into one form: uint8 RGB.

Ordinary JPEG files are decoded by torchvision, faster than by Pillow and to the same pixels; Pillow
reads all others, and JPEG files that torchvision refuses. EXIF rotation is applied; greyscale,
palette, CMYK and RGBA images become RGB (transparency is dropped, as the older toolboxes did);
16-bit images keep their high byte.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from glob import glob, has_magic
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)

# Larger images go to Pillow, which refuses what looks like a decompression bomb.
_MAX_PIXELS = 1 << 26

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
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no image file at {path}")
    image = _read_jpeg(path)
    return image if image is not None else _read_with_pillow(path)


def _read_with_pillow(path: Path) -> np.ndarray:
    from PIL import Image, ImageOps, UnidentifiedImageError

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
    except UnidentifiedImageError as error:
        raise ValueError(f"cannot read image {path}: {_what_it_is(path)}") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        # Pillow reports damaged files with any of these
        raise ValueError(f"cannot read image {path}: {error}") from error


def _what_it_is(path: Path) -> str:
    """Why Pillow knows nothing of a file."""
    if not path.stat().st_size:
        return "the file is empty"
    if path.suffix.lower() in (".heic", ".heif"):
        return "Pillow does not read HEIC; convert it to JPEG or PNG"
    with path.open("rb") as file:
        return f"it is no image of a known format; it begins with {file.read(8)!r}"


@lru_cache
def _jpeg_decoder() -> Callable[[Tensor], Tensor] | None:
    """torchvision's decoder of JPEG bytes into (C, H, W), upright; None where it does not load."""
    try:
        from torchvision.io import decode_jpeg
    except (ImportError, RuntimeError):
        return None  # absent, or built for another torch

    return partial(decode_jpeg, apply_exif_orientation=True)


def load_decoder() -> None:
    """Loads the JPEG decoder now: with torchvision's import it takes a second or more, once."""
    _jpeg_decoder()


def _read_jpeg(path: Path) -> np.ndarray | None:
    """An ordinary grey or RGB JPEG file as (H, W, 3) uint8, upright; None for all other files."""
    decode = _jpeg_decoder()
    if decode is None:
        return None
    try:
        data = np.fromfile(path, dtype=np.uint8)
        header = jpeg_header(data)
        if header is None or header.channels not in (1, 3) or header.pixels > _MAX_PIXELS:
            return None
        pixels = decode(torch.from_numpy(data)).permute(1, 2, 0)  # (H, W, C)
    except (OSError, RuntimeError):
        return None  # Pillow reads it, or says what is wrong with it
    return pixels.expand(-1, -1, 3).contiguous().numpy()


class JpegHeader(NamedTuple):
    """What the frame header of a JPEG file says; the size is that before EXIF rotation."""

    height: int
    width: int
    channels: int

    @property
    def pixels(self) -> int:
        """Height times width."""
        return self.height * self.width


def jpeg_header(data: np.ndarray) -> JpegHeader | None:
    """Reads the frame header of a baseline or progressive 8-bit JPEG file (ITU-T T.81, annex B).

    Args:
        data: (N,) uint8, the file or its beginning.

    Returns:
        None for other files.
    """
    if data[:2].tobytes() != b"\xff\xd8":
        return None
    position = 2
    while position + 10 <= len(data):
        fill, marker, high, low = data[position : position + 4].tolist()
        if fill != 0xFF:
            return None
        if marker == 0xFF:  # padding before a marker
            position += 1
            continue
        if marker in (0xC0, 0xC1, 0xC2):  # start of frame: baseline, extended, progressive
            precision, *size, channels = data[position + 4 : position + 10].tolist()
            height, width = size[0] << 8 | size[1], size[2] << 8 | size[3]
            return JpegHeader(height, width, channels) if precision == 8 else None
        if (0xC3 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xDA:
            return None  # a frame of another kind, or pixels before any frame
        position += 2 + (high << 8 | low)
    return None


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
            inside it, without hidden ones (``.name``), and says which other files it leaves out; a
            pattern (``*``, ``?``, ``[``, ``**``) yields its matches.
        suffixes: restricts what directories yield, for example ``(".jpg",)``; by default the
            common image formats.

    Raises:
        FileNotFoundError: a source does not exist, or matches no image.
    """
    chosen = frozenset(suffix.lower() for suffix in suffixes)
    wanted = chosen or IMAGE_SUFFIXES
    for source in sources:
        path = Path(source)
        if path.is_dir():
            # also links that lead nowhere: who reads them says so
            files = [p for p in path.iterdir() if not (p.name.startswith(".") or p.is_dir())]
            found = sorted(p for p in files if p.suffix.lower() in wanted)
            others = Counter(p.suffix or "without suffix" for p in {*files} - {*found})
            if others and found and not chosen:
                kinds = ", ".join(f"{number} {suffix}" for suffix, number in others.most_common())
                logger.warning("files of %s that are left out: %s", path, kinds)
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
