"""Cropped bitmaps of instances: what drawing needs of a mask, without whole-image bitmaps."""

from collections.abc import Iterator

import numpy as np
import torch

from maskrcnn_lib.config.dialects import DEFAULT_PASTE, PasteRule
from maskrcnn_lib.layers import paste_masks
from maskrcnn_lib.structures.bounding_box import BoxList


def instance_crops(
    predictions: BoxList,
    *,
    threshold: float = 0.5,
    paste: PasteRule = DEFAULT_PASTE,
) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
    """Yields each instance's bitmap inside a window around its box.

    Args:
        predictions: with field ``mask``: (N, 1, M, M) floating-point probabilities, or
            (N, 1, H, W) bool or integer bitmaps of the whole image.
        threshold: of the probabilities.
        paste: how probabilities are pasted, the detector's ``paste_rule``.

    Yields:
        (h, w) bool array and the (x, y) of its corner in the image.
    """
    masks = predictions.get_field("mask")
    boxes = predictions.convert("xyxy").bbox.cpu()
    width, height = predictions.size
    whole = not masks.is_floating_point()
    for mask, box in zip(masks.cpu(), boxes, strict=True):
        left, top, right, bottom = _window(box, width, height)
        if whole:
            crop = mask[0, top:bottom, left:right] > threshold
        else:
            place = paste.boxes(box[None] - box.new_tensor([left, top, left, top]))
            size = (bottom - top, right - left)
            crop = paste_masks(mask.float(), place, size, threshold, aligned=paste.aligned)[0]
        yield crop.numpy(), (left, top)


def _window(box: torch.Tensor, width: int, height: int) -> tuple[int, int, int, int]:
    """Whole-pixel window that holds the box and what pasting may add around it."""
    x1, y1, x2, y2 = box.tolist()
    # integer pasting enlarges the box by (M + 2) / M before it truncates
    margin_x, margin_y = 2 + 0.1 * (x2 - x1), 2 + 0.1 * (y2 - y1)
    left, top = max(0, int(x1 - margin_x)), max(0, int(y1 - margin_y))
    right, bottom = min(width, int(x2 + margin_x) + 1), min(height, int(y2 + margin_y) + 1)
    return min(left, width), min(top, height), max(left, right), max(top, bottom)
