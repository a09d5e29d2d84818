"""Operators that look at other places for each box or pixel, as sums over grids.

They are for one image at a time. Nothing but the order of sums differs from the operators.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_CUBIC = -0.75  # coefficient of bicubic interpolation, OpenCV's and torch's
_REACH = 2  # values on either side that it takes


class _Axis(NamedTuple):
    """How maps are resized along one axis.

    Attributes:
        weights: (R, P, M + 4) of the values of a map, which is repeated twice at its ends.
        inside: (R, P) bool, the pixels that each box has.
    """

    weights: Tensor
    inside: Tensor


def heat_map_peaks(heat_maps: Tensor, boxes: Tensor) -> Tensor:
    """Resizes maps to the grid of the largest box and looks at those pixels that each box has.

    Arguments as for ``layers.heat_map_peaks``. Key point by key point: in memory are four bytes for
    each box and pixel of the largest box.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)  # (R, 2) width, height
    pixels = sides.ceil()
    columns, rows = (_resize_axis(pixels[:, axis], heat_maps.shape[3]) for axis in (0, 1))
    inside = rows.inside[:, :, None] & columns.inside[:, None]  # (R, H, W)
    repeated = F.pad(heat_maps, (_REACH,) * 4, mode="replicate")
    peaks = []
    for maps in repeated.unbind(1):
        resized = rows.weights @ maps @ columns.weights.transpose(1, 2)  # (R, H, W)
        value, index = resized.where(inside, -torch.inf).flatten(1).max(dim=1)  # (R,)
        row = torch.div(index, inside.shape[2], rounding_mode="floor")
        pixel = torch.stack((index - row * inside.shape[2], row), dim=1)
        place = (pixel + 0.5) * (sides / pixels) + boxes[:, :2]
        peaks.append(torch.cat((place, value[:, None]), dim=1))
    return torch.stack(peaks, dim=1)


def _resize_axis(pixels: Tensor, size: int) -> _Axis:
    """Bicubic interpolation of maps that are ``size`` wide at the middles of pixels.

    Args:
        pixels: (R,) whole numbers, how many a box has; as many are computed as the largest has.
        size: M.
    """
    # A one beside them, because there may be no box.
    count = torch.cat((pixels, pixels.new_ones(1))).amax(dim=0).long().item()
    torch._check(count >= 1)
    pixel = torch.arange(count)
    place = (pixel + 0.5) * (size / pixels)[:, None] - 0.5  # (R, P)
    away = (place[:, :, None] - torch.arange(-_REACH, size + _REACH)).abs()
    near = ((_CUBIC + 2) * away - (_CUBIC + 3)) * away * away + 1
    far = ((_CUBIC * away - 5 * _CUBIC) * away + 8 * _CUBIC) * away - 4 * _CUBIC
    weights = near.where(away <= 1, far.where(away < 2, 0.0))
    return _Axis(weights, pixel < pixels[:, None])


def deform_conv2d(
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor,
    bias: Tensor,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    offset_groups: int,
    use_mask: bool,
) -> Tensor:
    """Samples by ``grid_sample`` and multiplies by the weights; arguments as torchvision's."""
    channels, height, width = x.shape[1:]
    kernel_h, kernel_w = weight.shape[2:]
    taps = kernel_h * kernel_w
    out_h, out_w = offset.shape[2:]
    tap = torch.arange(taps)[:, None, None]
    rows = torch.arange(out_h)[:, None] * stride_h - pad_h
    columns = torch.arange(out_w) * stride_w - pad_w
    shifts = offset.reshape(offset_groups, taps, 2, out_h, out_w)
    y = shifts[:, :, 0] + (rows + torch.div(tap, kernel_w, rounding_mode="floor") * dilation_h)
    x_places = shifts[:, :, 1] + (columns + tap % kernel_w * dilation_w)
    # grid_sample counts from -1 to 1 between the outer edges of the map.
    grid = torch.stack(((2 * x_places + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    samples = F.grid_sample(
        x.reshape(offset_groups, channels // offset_groups, height, width),
        grid.flatten(1, 2),
        align_corners=False,
    )  # (G, C / G, taps * H', W'), zero beyond the map
    samples = samples.reshape(offset_groups, -1, taps, out_h, out_w)
    if use_mask:
        samples = samples * mask.reshape(offset_groups, 1, taps, out_h, out_w)
    samples = samples.reshape(groups, -1, out_h * out_w)  # channels by taps, pixels
    y = weight.reshape(groups, -1, samples.shape[1]) @ samples
    return y.reshape(1, -1, out_h, out_w) + bias[:, None, None]


def embedding_bag(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool,
    mode: int,
    sparse: bool,
    per_sample_weights: Tensor,
    *settings: object,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weighted sums of rows, of as many for each bag, which is what ``sample_points`` asks for.

    Arguments as torch's; of its results only the first is one that anybody reads.
    """
    rows = weight[indices] * per_sample_weights[:, None]
    sums = rows.reshape(offsets.shape[0], -1, weight.shape[1]).sum(dim=1)
    return sums, offsets, offsets, offsets
