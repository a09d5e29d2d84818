"""Mask probabilities of M x M cells to pixels of the image: as bitmaps, or as COCO run lengths.

``aligned=False`` is the paste of Detectron, maskrcnn-benchmark and torchvision: the mask, with one
ring of zeros around it, is resized bilinearly to the box, which is grown by (M + 2) / M and
truncated to whole pixels; what is greater than the threshold belongs to the object.
``aligned=True`` is detectron2's: the mask, zero outside, is sampled bilinearly at the centres of
the pixels, relative to the continuous box; what is not less than the threshold belongs.
Outside of the (grown) box nothing belongs to the object, whatever the threshold. Run lengths are
computed from the probabilities directly, and are those of the bitmap exactly.
"""

import math
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from maskrcnn_lib.layers._checks import require_floating, require_same_device, require_shape
from maskrcnn_lib.layers._library import on_load, ops_available


def paste_masks(
    masks: Tensor,
    boxes: Tensor,
    image_size: tuple[int, int],
    threshold: float = 0.5,
    *,
    aligned: bool = False,
) -> Tensor:
    """Returns the bitmaps of masks in the image.

    Args:
        masks: (N, M, M) or (N, 1, M, M) floating point, probabilities.
        boxes: (N, 4) floating point, xyxy in pixels; a box without area gives an empty mask, except
            that with ``aligned=False`` a box is at least one pixel wide and high.
        image_size: (height, width).
        threshold: finite.
        aligned: the convention, see above.

    Returns:
        (N, height, width) bool.

    Raises:
        ValueError: a shape, a device, ``image_size`` or ``threshold`` is wrong, or a box is not
            finite. On CUDA the values of boxes are not examined, because that would stop the host:
            a box that is not finite gives an empty mask.
        TypeError: masks or boxes are not floating-point tensors.
    """
    masks, height, width = _check(masks, boxes, image_size, threshold)
    if _compiled(masks):
        return torch.ops.maskrcnn.paste_masks(masks, boxes, height, width, threshold, aligned)
    return _paste_reference(masks, boxes, height, width, threshold, aligned)


def masks_to_rle(
    masks: Tensor,
    boxes: Tensor,
    image_size: tuple[int, int],
    threshold: float = 0.5,
    *,
    aligned: bool = False,
) -> list[dict[str, list[int] | bytes]]:
    """Returns masks in COCO's compressed run-length encoding, without drawing them.

    Equal to ``pycocotools.mask.encode`` of the bitmaps of ``paste_masks``.

    Args:
        masks, boxes, image_size, threshold, aligned: as ``paste_masks``.

    Returns:
        N times ``{"size": [height, width], "counts": bytes}``.

    Raises:
        ValueError, TypeError: as ``paste_masks``.
    """
    masks, height, width = _check(masks, boxes, image_size, threshold)
    if _compiled(masks):
        ops = torch.ops.maskrcnn
        runs, offsets = ops.masks_to_rle(masks, boxes, height, width, threshold, aligned)
        counts = _compress(runs.cpu(), offsets.cpu())
    else:
        bitmaps = _paste_reference(masks, boxes, height, width, threshold, aligned)
        counts = [_compress_reference(_runs_reference(bitmap)) for bitmap in bitmaps.cpu().numpy()]
    return [{"size": [height, width], "counts": text} for text in counts]


def bitmaps_to_rle(bitmaps: Tensor) -> list[dict[str, list[int] | bytes]]:
    """Returns bitmaps in COCO's compressed run-length encoding.

    Equal to ``pycocotools.mask.encode``.

    Args:
        bitmaps: (N, height, width) bool.

    Returns:
        N times ``{"size": [height, width], "counts": bytes}``.

    Raises:
        ValueError: another shape or data type.
    """
    if bitmaps.dim() != 3 or bitmaps.dtype != torch.bool:
        shape, kind = tuple(bitmaps.shape), bitmaps.dtype
        raise ValueError(f"bitmaps must be (N, height, width) bool, but are {shape} {kind}")
    size = list(bitmaps.shape[1:])
    runs = [_runs_reference(bitmap) for bitmap in bitmaps.cpu().numpy()]
    if ops_available(torch.device("cpu")):
        flat = [run for each in runs for run in each]
        ends = [0, *accumulate(map(len, runs))]
        counts = _compress(torch.tensor(flat, dtype=torch.int64), torch.tensor(ends))
    else:
        counts = [_compress_reference(each) for each in runs]
    return [{"size": size, "counts": text} for text in counts]


def _compress(runs: Tensor, offsets: Tensor) -> list[bytes]:
    """COCO's text of each mask, whose runs lie between two of the offsets (N + 1,)."""
    text, ends = torch.ops.maskrcnn.compress_rle(runs, offsets)
    return _split(text.numpy().tobytes(), ends.tolist())


def _compiled(masks: Tensor) -> bool:
    return masks.device.type in ("cpu", "cuda") and ops_available(masks.device)


def _split(text: bytes, ends: list[int]) -> list[bytes]:
    return [text[begin:end] for begin, end in pairwise(ends)]


def _check(
    masks: Tensor, boxes: Tensor, image_size: tuple[int, int], threshold: float
) -> tuple[Tensor, int, int]:
    """Checks all arguments and returns masks as (N, M, M), height and width."""
    require_floating("masks", masks)
    require_floating("boxes", boxes)
    if masks.dim() == 4 and masks.shape[1] == 1:
        masks = masks[:, 0]
    if masks.dim() != 3 or masks.shape[1] != masks.shape[2] or masks.shape[1] == 0:
        shape = tuple(masks.shape)
        raise ValueError(f"masks must have shape (N, M, M) or (N, 1, M, M), but has {shape}")
    require_shape("boxes", boxes, (masks.shape[0], 4), "(N, 4), with N as masks have")
    require_same_device("boxes", boxes, "masks", masks)
    height, width = image_size
    if height < 0 or width < 0:
        raise ValueError(f"image_size must not be negative, but is {tuple(image_size)}")
    if not math.isfinite(threshold):
        raise ValueError(f"threshold must be finite, but is {threshold}")
    if boxes.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = ~boxes.isfinite().all(dim=1)
        if wrong.any():
            index = int(wrong.nonzero()[0])
            raise ValueError(f"boxes must be finite, but box {index} is {boxes[index].tolist()}")
    return masks, height, width


class _Axis(NamedTuple):
    """Pixels of one axis of the image, (P,) int64, and where in the padded mask they sample it."""

    pixels: Tensor
    index: Tensor
    weight: Tensor


def _integer_axis(low: Tensor, high: Tensor, mask_size: int, length: int) -> _Axis:
    half = (high - low) * 0.5 * ((mask_size + 2) / mask_size)
    centre = (high + low) * 0.5
    reach = 2**40  # keeps the conversion to integers defined
    first = int((centre - half).clamp(-reach, reach))
    last = int((centre + half).clamp(-reach, reach))
    begin = min(max(first, 0), length)
    pixels = torch.arange(begin, max(min(last + 1, length), begin), device=low.device)
    step = low.new_tensor(mask_size + 2) / max(last - first + 1, 1)
    position = (((pixels - first).to(low.dtype) + 0.5) * step - 0.5).clamp(min=0)
    index = position.floor().clamp(max=mask_size + 1)
    return _Axis(pixels, index.long(), (position - index).clamp(max=1))


def _continuous_axis(low: Tensor, high: Tensor, mask_size: int, length: int) -> _Axis:
    pixels = torch.arange(length, device=low.device)
    if not high > low:
        return _Axis(pixels[:0], pixels[:0], low.new_empty(0))
    grid = (pixels.to(low.dtype) + 0.5 - low) / (high - low) * 2 - 1
    position = ((grid + 1) * mask_size - 1) / 2  # as grid_sample with align_corners=False
    touches = (position > -1) & (position < mask_size)
    pixels, position = pixels[touches], position[touches]
    whole = position.floor()
    return _Axis(pixels, whole.long() + 1, position - whole)


def _paste_reference(
    masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float, aligned: bool
) -> Tensor:
    """The definition, one mask after the other; the operator gives the same bits."""
    precision = torch.float64 if masks.dtype == torch.float64 else torch.float32
    padded = torch.nn.functional.pad(masks.to(precision), (1, 2, 1, 2))
    axis = _continuous_axis if aligned else _integer_axis
    result = torch.zeros((len(masks), height, width), dtype=torch.bool, device=masks.device)
    for bitmap, mask, box in zip(result, padded, boxes.to(precision), strict=True):
        columns = axis(box[0], box[2], masks.shape[1], width)
        rows = axis(box[1], box[3], masks.shape[1], height)
        left, right = mask[:, columns.index], mask[:, columns.index + 1]
        widened = left + columns.weight * (right - left)  # (M + 3, columns)
        upper, lower = widened[rows.index], widened[rows.index + 1]
        values = upper + rows.weight[:, None] * (lower - upper)
        inside = values >= threshold if aligned else values > threshold
        bitmap[rows.pixels[:, None], columns.pixels] = inside
    return result


def _runs_reference(bitmap: np.ndarray) -> list[int]:
    """Lengths of alternating runs of zeros and ones of a bitmap in column-major order."""
    pixels = bitmap.flatten(order="F").astype(np.int8)
    changes = np.flatnonzero(np.diff(pixels, prepend=0))
    return np.diff(changes, prepend=0, append=pixels.size).tolist()


def _compress_reference(runs: list[int]) -> bytes:
    """COCO's text for run lengths: differences, in groups of five bits and one that says more."""
    text = bytearray()
    for place, run in enumerate(runs):
        number = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            group = number & 31
            number >>= 5
            more = number != (-1 if group & 16 else 0)
            text.append(48 + group + (32 if more else 0))
    return bytes(text)


def _register_fakes() -> None:
    def fake_paste_masks(
        masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float, aligned: bool
    ) -> Tensor:
        return masks.new_empty((masks.shape[0], height, width), dtype=torch.bool)

    def fake_masks_to_rle(
        masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float, aligned: bool
    ) -> tuple[Tensor, Tensor]:
        runs = masks.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)
        return runs, masks.new_empty(masks.shape[0] + 1, dtype=torch.int64)

    def fake_compress_rle(runs: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        text = runs.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.uint8)
        return text, torch.empty_like(offsets)

    torch.library.register_fake("maskrcnn::paste_masks")(fake_paste_masks)
    torch.library.register_fake("maskrcnn::masks_to_rle")(fake_masks_to_rle)
    torch.library.register_fake("maskrcnn::compress_rle")(fake_compress_rle)


on_load(_register_fakes)
