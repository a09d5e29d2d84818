"""COCO's run lengths, checked and decoded without C code.

A bitmap is read column by column; counts are the lengths of alternating runs of 0 and 1, starting
with 0. Compressed, each count (from the fourth on: its difference to the count two before) is a
little-endian sequence of characters from code 48 on: 5 bits of two's complement and a bit that says
whether more follow (`maskApi.c` of the COCO API). pycocotools trusts its input and reads beyond the
end of wrong run lengths; this module raises.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_FIRST_CODE = 48
_DATA_BITS = 5
_MAX_CHARACTERS = 7  # 35 bits: more than any image has pixels


def decode_rle(rle: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Decodes run lengths of one bitmap.

    Args:
        rle: ``{"size": [height, width], "counts": ...}``; counts are numbers (uncompressed) or a
            str or bytes (compressed).
        size: (height, width) that the bitmap must have.

    Returns:
        (height, width) bool.

    Raises:
        ValueError: a key is missing, another size, characters or numbers that are no run lengths,
            or runs that do not add up to height * width.
    """
    height, width = size
    runs = read_runs(rle, size)
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def read_runs(rle: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    """The checked run lengths of :func:`decode_rle`, without making the bitmap.

    Returns:
        (R,) int64: alternating numbers of pixels outside and inside; their sum is height * width.

    Raises:
        ValueError: as :func:`decode_rle`.
    """
    if "size" not in rle or "counts" not in rle:
        raise ValueError(f"RLE needs the keys 'size' and 'counts', got {sorted(map(str, rle))}")
    height, width = size
    stated = rle["size"]
    if not hasattr(stated, "__iter__") or tuple(stated) != (height, width):
        raise ValueError(f"RLE is {stated!r}, expected [height, width] = [{height}, {width}]")
    counts = rle["counts"]
    if isinstance(counts, str | bytes):
        runs = _decompress(counts)
    else:
        runs = _read_counts(counts)
    with np.errstate(over="ignore"):
        total = runs.sum()
    if (runs < 0).any() or (runs > height * width).any() or total != height * width:
        raise ValueError(
            f"RLE counts must be >= 0 and add up to {height} * {width} = {height * width} pixels; "
            f"these {len(runs)} add up to {total:.0f}"
        )
    return runs.astype(np.int64)


def _read_counts(counts: Sequence[int]) -> np.ndarray:
    """Uncompressed counts as float64."""
    try:
        values = np.asarray(counts, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("RLE counts must be a list of numbers, a str or bytes") from error
    if values.ndim != 1 or not np.isfinite(values).all() or (values != np.floor(values)).any():
        raise ValueError("uncompressed RLE counts must be a flat list of whole numbers")
    return values


def _decompress(text: str | bytes) -> np.ndarray:
    """Compressed counts as int64."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    codes = np.frombuffer(data, dtype=np.uint8).astype(np.int64) - _FIRST_CODE
    if ((codes < 0) | (codes > 63)).any():
        raise ValueError("compressed RLE has characters outside codes 48 to 111")
    if len(codes) == 0:
        return codes
    ends = np.flatnonzero(codes < 32)  # bit 5 is not set: last character of its number
    if len(ends) == 0 or ends[-1] != len(codes) - 1:
        raise ValueError("compressed RLE is cut off in the middle of a number")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _MAX_CHARACTERS:
        raise ValueError("compressed RLE holds a number beyond 35 bits")
    shifts = _DATA_BITS * (np.arange(len(codes)) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((codes & 31) << shifts, starts)
    numbers -= np.where(codes[ends] & 16, 1 << (_DATA_BITS * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
