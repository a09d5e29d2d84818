"""Where the heat maps of key points are highest, once resized to their boxes.

A head gives M x M values per box and key point; Detectron (He et al. 2017, arXiv:1703.06870) takes
the highest pixel of the map resized to the box, by bicubic interpolation as of OpenCV and torch,
and returns the middle of that pixel. The operator finds it without making the resized maps.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from maskrcnn_lib.layers._checks import require_floating, require_same_device, require_shape
from maskrcnn_lib.layers._library import on_load, ops_available

_LONGEST_SIDE = 1 << 16  # as the operators have it: csrc/common/peak_inputs.h


def heat_map_peaks(heat_maps: Tensor, boxes: Tensor) -> Tensor:
    """Finds each map's highest value on the pixel grid of its box.

    A map is resized to the box's width and height, rounded up to whole pixels and at least one;
    of equal values the first in reading order counts.

    Args:
        heat_maps: (R, K, M, M) floating point; K maps for each box. Half precision is computed in
            float32.
        boxes: (R, 4) floating point, xyxy in pixels, at most 65536 wide and high.

    Returns:
        (R, K, 3) float32 (float64 for float64 maps): x and y in pixels of the image, and the
        interpolated value there.

    Raises:
        ValueError: a shape or a device is wrong, or a box is not finite or too large. On CUDA the
            values of boxes are not examined, because that would stop the host; x or y of such a
            box is not finite, or lies where a box of the largest size ends.
        TypeError: an argument is no floating-point tensor.
    """
    require_floating("heat_maps", heat_maps)
    require_floating("boxes", boxes)
    if heat_maps.dim() != 4 or heat_maps.shape[2] != heat_maps.shape[3] or not heat_maps.shape[2]:
        raise ValueError(
            f"heat_maps must have shape (R, K, M, M), but has {tuple(heat_maps.shape)}"
        )
    require_shape("boxes", boxes, (heat_maps.shape[0], 4), "(R, 4), with R as heat_maps have")
    require_same_device("boxes", boxes, "heat_maps", heat_maps)
    if boxes.device.type == "cpu" and not torch.compiler.is_compiling():
        _check_boxes(boxes)
    if heat_maps.device.type in ("cpu", "cuda") and ops_available(heat_maps.device):
        return torch.ops.maskrcnn.heat_map_peaks(heat_maps, boxes)
    return _peaks_reference(heat_maps, boxes)


def _check_boxes(boxes: Tensor) -> None:
    sides = boxes[:, 2:].float() - boxes[:, :2].float()
    wrong = ~(boxes.isfinite().all(dim=1) & (sides <= _LONGEST_SIDE).all(dim=1))
    if wrong.any():
        index = int(wrong.nonzero()[0])
        raise ValueError(
            f"boxes must be finite and at most {_LONGEST_SIDE} pixels wide and high, but box "
            f"{index} is {boxes[index].tolist()}"
        )


def _peaks_reference(heat_maps: Tensor, boxes: Tensor) -> Tensor:
    """The definition, one box after the other."""
    precision = torch.float64 if heat_maps.dtype == torch.float64 else torch.float32
    heat_maps, boxes = heat_maps.to(precision), boxes.to(precision)
    peaks = heat_maps.new_empty((*heat_maps.shape[:2], 3))
    if peaks.numel() == 0:
        return peaks
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)  # (R, 2) width, height
    for out, maps, box, side in zip(peaks, heat_maps, boxes, sides, strict=True):
        width, height = side.ceil().long().tolist()
        resized = F.interpolate(maps[None], (height, width), mode="bicubic")[0]
        out[:, 2], pixel = resized.flatten(1).max(dim=1)  # (K,)
        pixels = torch.stack((pixel % width, pixel // width), dim=1)
        out[:, :2] = (pixels + 0.5) * (side / side.ceil()) + box[:2]
    return peaks


def _register_fakes() -> None:
    def fake(heat_maps: Tensor, boxes: Tensor) -> Tensor:
        precision = torch.float64 if heat_maps.dtype == torch.float64 else torch.float32
        return heat_maps.new_empty((*heat_maps.shape[:2], 3), dtype=precision)

    torch.library.register_fake("maskrcnn::heat_map_peaks")(fake)


on_load(_register_fakes)
