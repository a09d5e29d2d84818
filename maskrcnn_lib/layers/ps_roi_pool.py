"""Position-sensitive RoI pooling: each bin of a box is pooled from channels of its own.

Dai et al., "R-FCN" (https://arxiv.org/abs/1605.06409), section 2. With height x width bins, a map
of C * height * width channels gives C: bin (i, j) of result channel c comes from map channel
``(c * height + i) * width + j``. ``ps_roi_pool`` averages whole pixels as the paper does;
``ps_roi_align`` averages bilinear samples, as aligned RoIAlign does. Corners are rounded as in
torchvision, whose ``ps_roi_pool`` leaves the map's last row and column out of the values, but not
out of the gradients; here they are part of both. The kernels are in csrc/; the references here say
the same in plain PyTorch.
"""

import torch
from torch import Tensor, nn

from maskrcnn_lib.layers._library import on_load, ops_available
from maskrcnn_lib.layers.roi_align import (
    check_features,
    check_output_size,
    check_roi_values,
    check_rois,
    check_scale,
    register_roi_operator,
    roi_align_reference,
)


def ps_roi_pool(
    input: Tensor, rois: Tensor, output_size: int | tuple[int, int], spatial_scale: float
) -> Tensor:
    """Averages the whole pixels that each bin touches, from the bin's own channels.

    A RoI's corners are rounded to pixels of ``input``, and it is at least one pixel large. A bin
    that touches no pixel is zero. Gradients flow to ``input``, also of second order; on the CPU
    they do not depend on the number of threads, on CUDA they are the same from run to run where
    ``torch.use_deterministic_algorithms`` asks for it. Arithmetic of half types is float32.

    Args:
        input: (N, C * height * width, H, W) score maps, any strides; float32, float64, float16 or
            bfloat16.
        rois: (K, 5) floating point rows (batch index, x1, y1, x2, y2), in pixels of the image.
        output_size: (height, width) in bins, or one number for both.
        spatial_scale: pixels of ``input`` per pixel of the image.

    Returns:
        (K, C, height, width), contiguous, dtype of ``input``.

    Raises:
        ValueError, TypeError: as ``roi_align``; or the channels are no multiple of the bins.
    """
    size = _check(input, rois, output_size, spatial_scale)
    if ops_available(input.device):
        return torch.ops.maskrcnn.ps_roi_pool(input, rois, spatial_scale, *size, 0, False)
    return ps_roi_pool_reference(input, rois, size, spatial_scale)


def ps_roi_align(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int = -1,
) -> Tensor:
    """As ``ps_roi_pool``, but each bin averages bilinear samples and nothing is rounded.

    Args:
        input, rois, output_size, spatial_scale: as for ``ps_roi_pool``.
        sampling_ratio: samples per bin and axis; 0 or less takes one per pixel that a bin covers.

    Returns:
        (K, C, height, width), contiguous, dtype of ``input``.

    Raises:
        ValueError, TypeError: as ``ps_roi_pool``.
    """
    size = _check(input, rois, output_size, spatial_scale)
    if ops_available(input.device):
        rule = (*size, sampling_ratio, True)
        return torch.ops.maskrcnn.ps_roi_pool(input, rois, spatial_scale, *rule)
    return ps_roi_align_reference(input, rois, size, spatial_scale, sampling_ratio)


class PSROIPool(nn.Module):
    """``ps_roi_pool`` as a module; see there for the arguments."""

    def __init__(self, output_size: int | tuple[int, int], spatial_scale: float) -> None:
        super().__init__()
        self.output_size = check_output_size(output_size)
        self.spatial_scale = spatial_scale

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        return ps_roi_pool(input, rois, self.output_size, self.spatial_scale)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, spatial_scale={self.spatial_scale}"


class PSROIAlign(nn.Module):
    """``ps_roi_align`` as a module; see there for the arguments."""

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int = -1,
    ) -> None:
        super().__init__()
        self.output_size = check_output_size(output_size)
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        size, scale = self.output_size, self.spatial_scale
        return ps_roi_align(input, rois, size, scale, self.sampling_ratio)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}"
        )


def _check(
    input: Tensor, rois: Tensor, output_size: int | tuple[int, int], spatial_scale: float
) -> tuple[int, int]:
    height, width = check_output_size(output_size)
    check_features("input", input)
    check_rois(rois, input, "input")
    check_scale("spatial_scale", spatial_scale)
    if input.shape[1] % (height * width):
        raise ValueError(
            f"input: expected a multiple of {height} x {width} channels, one per bin, "
            f"got {input.shape[1]}"
        )
    return height, width


def ps_roi_pool_reference(
    input: Tensor, rois: Tensor, output_size: tuple[int, int], spatial_scale: float
) -> Tensor:
    """The same as ``ps_roi_pool`` in plain PyTorch: means over rows and columns, as matrices."""
    check_roi_values(rois, input.shape[0])
    arithmetic = torch.float64 if input.dtype == torch.float64 else torch.float32
    maps = input.to(arithmetic).unflatten(1, (-1, *output_size))  # (N, C, height, width, H, W)
    corners = (rois.detach()[:, 1:].to(arithmetic) * spatial_scale).abs().add(0.5).floor()
    corners = corners.copysign(rois[:, 1:])  # halves are rounded away from zero
    rows = _mean_matrix(corners[:, 1], corners[:, 3], output_size[0], input.shape[2])
    columns = _mean_matrix(corners[:, 0], corners[:, 2], output_size[1], input.shape[3])
    pooled = input.new_zeros(len(rois), maps.shape[1], *output_size, dtype=arithmetic)
    for index, image in enumerate(rois[:, 0].long().tolist()):
        bins = (rows[index], columns[index])
        pooled[index] = torch.einsum("cijyx,iy,jx->cij", maps[image], *bins)
    return pooled.to(input.dtype) + 0 * input.sum()


def _mean_matrix(first: Tensor, last: Tensor, bins: int, size: int) -> Tensor:
    """Weight of each pixel in each bin along one axis; first, last: (K,). (K, bins, size)."""
    length = (last - first).clamp(min=1)[:, None] / bins
    bin = torch.arange(bins, device=first.device)
    begin = ((bin * length).floor() + first[:, None]).clamp(0, size)  # (K, bins)
    end = (((bin + 1) * length).ceil() + first[:, None]).clamp(0, size)
    pixel = torch.arange(size, device=first.device)
    inside = (pixel >= begin[:, :, None]) & (pixel < end[:, :, None])
    return inside / (end - begin).clamp(min=1)[:, :, None]


def ps_roi_align_reference(
    input: Tensor,
    rois: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
) -> Tensor:
    """The same as ``ps_roi_align`` in plain PyTorch: RoIAlign of all channels, most left unused."""
    every = roi_align_reference(input, rois, output_size, spatial_scale, sampling_ratio, True)
    every = every.unflatten(1, (-1, *output_size))  # (K, C, i, j, bin i, bin j)
    same_row = every.diagonal(dim1=2, dim2=4)  # (K, C, j, bin j, i)
    return same_row.diagonal(dim1=2, dim2=3).contiguous()  # (K, C, i, j)


def _fake(
    input: Tensor, rois: Tensor, scale: float, height: int, width: int, *rule: int | bool
) -> Tensor:
    return input.new_empty((rois.shape[0], input.shape[1] // (height * width), height, width))


on_load(lambda: register_roi_operator("ps_roi_pool", _fake))
