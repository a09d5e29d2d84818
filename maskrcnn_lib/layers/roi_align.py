"""RoIAlign: features of a box, by averaging bilinear samples in a grid of bins.

He et al., "Mask R-CNN" (https://arxiv.org/abs/1703.06870), section 3. The kernels are in csrc/;
the reference implementation here says the same in plain PyTorch and serves where no compiled
library is present.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from maskrcnn_lib.layers._checks import require_tensor
from maskrcnn_lib.layers._library import on_load, ops_available

SUPPORTED_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_REFERENCE_ROIS = 64  # RoIs whose samples are in memory at a time


def roi_align(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool = False,
) -> Tensor:
    """Pools each RoI into bins of equal size, each the mean of bilinear samples.

    Gradients flow to ``input``, also of second order. On the CPU they are the same to the last bit
    whatever the number of threads; on CUDA where ``torch.use_deterministic_algorithms`` asks for
    it. float16 and bfloat16 stay so, under autocast as well; arithmetic is float32.

    Args:
        input: (N, C, H, W) feature map, any strides; float32, float64, float16 or bfloat16.
        rois: (K, 5) floating point rows (batch index, x1, y1, x2, y2), in pixels of the image.
            float32 is right for every dtype of ``input``: float16 cannot hold pixel coordinates.
        output_size: (height, width) in bins, or one number for both.
        spatial_scale: pixels of ``input`` per pixel of the image.
        sampling_ratio: samples per bin and axis; 0 or less takes one per pixel that a bin covers.
        aligned: True takes pixel centres to lie at integers + 0.5 and RoIs of any size
            (Detectron2); False shifts samples by half a pixel and makes RoIs at least one pixel of
            ``input`` large (Detectron, maskrcnn-benchmark).

    Returns:
        (K, C, height, width), dtype and memory format of ``input``.

    Raises:
        ValueError: wrong shape, a batch index outside [0, N), a coordinate that is not finite, an
            argument on another device. On CUDA the values of ``rois`` are not examined, because
            that would stop the host: a RoI with such values pools to zeros.
        TypeError: wrong dtype.
    """
    height, width = check_output_size(output_size)
    check_features("input", input)
    check_rois(rois, input, "input")
    check_scale("spatial_scale", spatial_scale)
    if ops_available(input.device):
        return torch.ops.maskrcnn.roi_align(
            input, rois, spatial_scale, height, width, sampling_ratio, aligned
        )
    return roi_align_reference(input, rois, (height, width), spatial_scale, sampling_ratio, aligned)


class ROIAlign(nn.Module):
    """``roi_align`` as a module; see there for the arguments."""

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool = False,
    ) -> None:
        super().__init__()
        self.output_size = check_output_size(output_size)
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        return roi_align(
            input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned
        )

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"
        )


def check_output_size(output_size: int | tuple[int, int]) -> tuple[int, int]:
    """Returns (height, width); raises ValueError where it is no pair of positive numbers."""
    size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"output_size: expected one or two numbers > 0, got {output_size}")
    return size


def check_scale(name: str, scale: float) -> None:
    """Raises ValueError where ``scale`` cannot be pixels per pixel."""
    if not 0 < scale < float("inf"):
        raise ValueError(f"{name}: expected a finite number > 0, got {scale}")


def check_features(name: str, features: Tensor) -> None:
    """Raises TypeError or ValueError where ``features`` is no feature map (N, C, H, W)."""
    require_tensor(name, features)
    if features.dtype not in SUPPORTED_DTYPES:
        raise TypeError(
            f"{name}: expected dtype float32, float64, float16 or bfloat16, got {features.dtype}"
        )
    if features.dim() != 4:
        raise ValueError(f"{name}: expected shape (N, C, H, W), got {tuple(features.shape)}")


def check_rois(rois: Tensor, beside: Tensor, beside_name: str) -> None:
    """Raises TypeError or ValueError where ``rois`` cannot be pooled from ``beside``.

    Values are examined on the CPU, where that costs little, and outside of torch.compile; there
    the kernel examines them.
    """
    require_tensor("rois", rois)
    if rois.dtype not in SUPPORTED_DTYPES:
        raise TypeError(f"rois: expected a floating point dtype, got {rois.dtype}")
    if rois.dim() != 2 or rois.shape[1] != 5:
        raise ValueError(
            "rois: expected shape (K, 5) with rows (batch index, x1, y1, x2, y2), "
            f"got {tuple(rois.shape)}"
        )
    if rois.device != beside.device:
        raise ValueError(f"rois: on {rois.device}, but {beside_name} is on {beside.device}")
    if rois.device.type == "cpu" and not torch.compiler.is_compiling():
        check_roi_values(rois, beside.shape[0])


def check_roi_values(rois: Tensor, images: int) -> None:
    """Raises ValueError that names the first RoI with a wrong batch index or coordinate."""
    rois = rois.detach()
    index = rois[:, 0]
    good = rois.isfinite().all(dim=1) & (index >= 0) & (index < images)
    if not bool(good.all()):
        row = int((~good).nonzero()[0, 0])
        raise ValueError(
            f"rois[{row}]: expected a batch index in [0, {images}) and finite coordinates, "
            f"got {rois[row].tolist()}"
        )


def is_channels_last(features: Tensor) -> bool:
    """Whether the kernels take the channels of a pixel to lie side by side (and return such)."""
    return features.stride(1) == 1 and not features.is_contiguous()


def roi_align_reference(
    input: Tensor,
    rois: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """The same as ``roi_align`` in plain PyTorch: a bin is a bag of weighted pixels."""
    check_roi_values(rois, input.shape[0])
    _, channels, map_height, map_width = input.shape
    height, width = output_size
    if input.numel() == 0 or len(rois) == 0:
        pooled = input.new_zeros(len(rois), height, width, channels) + 0 * input.sum()
    else:
        arithmetic = torch.float64 if input.dtype == torch.float64 else torch.float32
        pixels = input.permute(0, 2, 3, 1).reshape(-1, channels).to(arithmetic)
        pieces = []
        for some in rois.detach().to(arithmetic).split(_REFERENCE_ROIS):
            axes = _sample_axes(some, output_size, spatial_scale, sampling_ratio, aligned)
            index, weight, offsets = _bags(some[:, 0].long(), axes, (map_height, map_width))
            pieces.append(
                embedding_bag(index, pixels, offsets, mode="sum", per_sample_weights=weight)
            )
        pooled = torch.cat(pieces).view(-1, height, width, channels).to(input.dtype)
    pooled = pooled.permute(0, 3, 1, 2)
    layout = torch.channels_last if is_channels_last(input) else torch.contiguous_format
    return pooled.contiguous(memory_format=layout)


def _sample_axes(
    rois: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> list[tuple[int, Tensor, Tensor, Tensor]]:
    """For y and x: number of bins; start, size of a bin and samples per bin of each RoI, (K,)."""
    axes = []
    for bins, low, high in zip(output_size, (2, 1), (4, 3), strict=True):
        shift = 0.5 if aligned else 0.0
        start = rois[:, low] * spatial_scale - shift
        length = rois[:, high] * spatial_scale - shift - start
        if not aligned:
            length = length.clamp(min=1.0)
        size = length / bins
        if sampling_ratio > 0:
            samples = torch.full_like(size, sampling_ratio, dtype=torch.long)
        else:
            samples = size.ceil().clamp(min=0).long()
        axes.append((bins, start, size, samples))
    return axes


def _bags(
    images: Tensor, axes: list[tuple[int, Tensor, Tensor, Tensor]], map_size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels and weights of all bins, one after the other, and where each bin begins.

    Returns:
        index: (T,) into the rows of a table (N * H * W, C); weight: (T,); offsets: (K * bins,).
    """
    (bins_y, _, _, samples_y), (bins_x, _, _, samples_x) = axes
    per_bin = samples_y * samples_x  # (K,)
    per_bag = per_bin.repeat_interleave(bins_y * bins_x)
    offsets = 4 * (per_bag.cumsum(0) - per_bag)
    bag = torch.arange(len(per_bag), device=images.device).repeat_interleave(per_bag)  # (S,)
    roi = bag // (bins_y * bins_x)
    sample = torch.arange(len(bag), device=images.device) - offsets[bag] // 4
    pixel_y, weight_y = _taps(
        axes[0], roi, bag // bins_x % bins_y, sample // samples_x[roi], map_size[0]
    )
    pixel_x, weight_x = _taps(axes[1], roi, bag % bins_x, sample % samples_x[roi], map_size[1])
    row = images[roi, None] * map_size[0] + pixel_y  # (S, 2)
    index = row[:, :, None] * map_size[1] + pixel_x[:, None, :]  # (S, 2, 2)
    weight = weight_y[:, :, None] * weight_x[:, None, :] / per_bin[roi, None, None]
    return index.flatten(), weight.flatten(), offsets


def _taps(
    axis: tuple[int, Tensor, Tensor, Tensor], roi: Tensor, bin: Tensor, sample: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """The two pixels that each sample lies between along one axis and their weights, (S, 2)."""
    _, start, bin_size, samples = axis
    position = start[roi] + bin * bin_size[roi] + (sample + 0.5) * bin_size[roi] / samples[roi]
    inside = (position >= -1) & (position <= size)  # further out is zero
    position = position.clamp(0, size - 1)
    low = position.long()
    high = (low + 1).clamp(max=size - 1)
    fraction = position - low
    weight = torch.stack([1 - fraction, fraction], dim=1) * inside[:, None]
    return torch.stack([low, high], dim=1), weight


def register_roi_operator(name: str, fake: Callable[..., Tensor]) -> None:
    """Registers fake kernels and gradients, also of second order, of an operator that pools RoIs.

    Args:
        name: the operator ``name(input, rois, spatial_scale, height, width, sampling_ratio, flag)``
            with ``name_backward(grad, rois, input_size, spatial_scale, sampling_ratio, flag,
            channels_last, deterministic)``.
        fake: what ``name`` returns, without contents.
    """
    library = torch.library
    library.register_fake(f"maskrcnn::{name}", fake)
    library.register_fake(f"maskrcnn::{name}_backward", _fake_backward)
    pool = getattr(torch.ops.maskrcnn, name).default
    spread = getattr(torch.ops.maskrcnn, f"{name}_backward").default

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (rois,) = ctx.saved_tensors
        spatial_scale, _, _, *rule = ctx.rule
        deterministic = torch.are_deterministic_algorithms_enabled()
        layout = (ctx.channels_last, deterministic)
        gradient = spread(grad, rois, ctx.input_size, spatial_scale, *rule, *layout)
        return gradient, None, None, None, None, None, None

    def double_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (rois,) = ctx.saved_tensors
        spatial_scale, sampling_ratio, flag, _, _ = ctx.rule
        pooled = pool(grad, rois, spatial_scale, *ctx.pooled_size, sampling_ratio, flag)
        return pooled, None, None, None, None, None, None, None

    library.register_autograd(f"maskrcnn::{name}", backward, setup_context=_setup_context)
    library.register_autograd(
        f"maskrcnn::{name}_backward", double_backward, setup_context=_setup_double_context
    )


def _fake(
    input: Tensor, rois: Tensor, scale: float, height: int, width: int, *rule: int | bool
) -> Tensor:
    size = (rois.shape[0], input.shape[1], height, width)
    return empty_map(input, size, is_channels_last(input))


def _fake_backward(
    grad: Tensor, rois: Tensor, input_size: Sequence[int], *rule: float | bool
) -> Tensor:
    channels_last = bool(rule[-2])
    return empty_map(grad, input_size, channels_last)


def empty_map(like: Tensor, size: Sequence[int], channels_last: bool) -> Tensor:
    """An empty tensor of the dtype and on the device of ``like``."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=layout)


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    input, rois, *ctx.rule = inputs
    ctx.save_for_backward(rois)
    ctx.input_size = input.shape
    ctx.channels_last = is_channels_last(input)


def _setup_double_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    grad, rois, _, *ctx.rule = inputs
    ctx.save_for_backward(rois)
    ctx.pooled_size = grad.shape[2:]


on_load(lambda: register_roi_operator("roi_align", _fake))
