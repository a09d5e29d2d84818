"""RoIAlign over a feature pyramid: each RoI is pooled from the level that fits its size.

Lin et al., "Feature Pyramid Networks" (https://arxiv.org/abs/1612.03144), equation 1. One call
pools all levels; the rows of the result are in the order of the RoIs.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from maskrcnn_lib.layers._library import on_load, ops_available
from maskrcnn_lib.layers.roi_align import (
    check_features,
    check_output_size,
    check_rois,
    check_scale,
    empty_map,
    is_channels_last,
    roi_align_reference,
)

MOST_LEVELS = 8  # that the kernels have room for


def multilevel_roi_align(
    features: Sequence[Tensor],
    rois: Tensor,
    scales: Sequence[float],
    output_size: int | tuple[int, int],
    sampling_ratio: int,
    aligned: bool = False,
    canonical_size: float = 224,
    canonical_level: int = 4,
    box_end_offset: float = 0.0,
) -> Tensor:
    """``roi_align`` of each RoI on the level that fits its size.

    The level of a box of size w x h is floor(canonical_level + log2(sqrt(w h) / canonical_size +
    1e-6)), clamped to the levels there are. The first level is -log2(scales[0]), and each further
    one halves the resolution.

    Args:
        features: 1 to 8 maps (N, C, H_l, W_l), finest first; same dtype, device, N and C.
        rois: (K, 5) floating point rows (batch index, x1, y1, x2, y2), in pixels of the image.
        scales: pixels of each map per pixel of the image.
        output_size: (height, width) in bins, or one number for both.
        sampling_ratio: samples per bin and axis; 0 or less takes one per pixel that a bin covers.
        aligned: see ``roi_align``.
        canonical_size: size in pixels of the boxes that go to ``canonical_level``.
        canonical_level: see above.
        box_end_offset: added to x2 and y2 before sampling, not before the choice of the level.
            -1 gives the sampling of toolboxes whose boxes include their last pixel.

    Returns:
        (K, C, height, width) in the order of ``rois``; dtype and memory format of ``features[0]``.

    Raises:
        ValueError, TypeError: as ``roi_align``; also where the features do not fit each other.
    """
    height, width = check_output_size(output_size)
    features, scales = list(features), [float(scale) for scale in scales]
    _check_pyramid(features, scales, canonical_size)
    check_rois(rois, features[0], "features[0]")
    if ops_available(features[0].device):
        return torch.ops.maskrcnn.multilevel_roi_align(
            features,
            rois,
            scales,
            height,
            width,
            sampling_ratio,
            aligned,
            canonical_size,
            canonical_level,
            box_end_offset,
        )
    return multilevel_roi_align_reference(
        features,
        rois,
        scales,
        (height, width),
        sampling_ratio,
        aligned,
        canonical_size,
        canonical_level,
        box_end_offset,
    )


def _check_pyramid(features: list[Tensor], scales: list[float], canonical_size: float) -> None:
    if not 0 < len(features) <= MOST_LEVELS:
        raise ValueError(f"features: expected 1 to {MOST_LEVELS} feature maps, got {len(features)}")
    if len(features) != len(scales):
        raise ValueError(f"scales: got {len(scales)} for {len(features)} feature maps")
    for index, scale in enumerate(scales):
        check_scale(f"scales[{index}]", scale)
    check_scale("canonical_size", canonical_size)
    first = features[0]
    for index, features_of_level in enumerate(features):
        name = f"features[{index}]"
        check_features(name, features_of_level)
        if features_of_level.dtype != first.dtype:
            raise TypeError(f"{name}: {features_of_level.dtype}, but features[0]: {first.dtype}")
        if features_of_level.device != first.device:
            raise ValueError(f"{name}: on {features_of_level.device}, features[0]: {first.device}")
        if features_of_level.shape[:2] != first.shape[:2]:
            raise ValueError(
                f"{name}: expected batch size and channels of features[0], "
                f"{tuple(first.shape[:2])}, got {tuple(features_of_level.shape[:2])}"
            )


def pyramid_levels(
    rois: Tensor, scales: Sequence[float], canonical_size: float, canonical_level: int
) -> Tensor:
    """Index into ``scales`` of the level that each RoI is pooled from.

    The kernels compare with the same powers of two, so that all agree to the last bit; log2 rounds
    differently from one library to the next.

    Returns:
        (K,) int64.
    """
    if rois.dtype not in (torch.float32, torch.float64):
        rois = rois.float()
    size = ((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])).sqrt() / canonical_size + 1e-6
    first = round(-math.log2(scales[0]))
    levels = torch.zeros_like(size, dtype=torch.long)
    for index in range(1, len(scales)):
        levels = levels + (size >= 2.0 ** (first + index - canonical_level))
    return levels


def multilevel_roi_align_reference(
    features: Sequence[Tensor],
    rois: Tensor,
    scales: Sequence[float],
    output_size: tuple[int, int],
    sampling_ratio: int,
    aligned: bool,
    canonical_size: float,
    canonical_level: int,
    box_end_offset: float,
) -> Tensor:
    """The same as ``multilevel_roi_align`` in plain PyTorch: one level after the other."""
    levels = pyramid_levels(rois, scales, canonical_size, canonical_level)
    boxes = rois + rois.new_tensor([0, 0, 0, box_end_offset, box_end_offset])
    pieces, order = [], []
    for index, (level, scale) in enumerate(zip(features, scales, strict=True)):
        of_level = (levels == index).nonzero().flatten()
        order.append(of_level)
        pieces.append(
            roi_align_reference(level, boxes[of_level], output_size, scale, sampling_ratio, aligned)
        )
    pooled = torch.cat(pieces)[torch.cat(order).argsort()]
    channels_last = is_channels_last(features[0])
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return pooled.contiguous(memory_format=layout)


def _register() -> None:
    library = torch.library
    forward, backward = "maskrcnn::multilevel_roi_align", "maskrcnn::multilevel_roi_align_backward"
    library.register_fake(forward, _fake)
    library.register_autograd(forward, _backward, setup_context=_setup_context)
    library.register_fake(backward, _fake_backward)
    library.register_autograd(backward, _double_backward, setup_context=_setup_double_context)


def _fake(
    features: Sequence[Tensor],
    rois: Tensor,
    scales: Sequence[float],
    height: int,
    width: int,
    *rule: float | bool,
) -> Tensor:
    first = features[0]
    size = (rois.shape[0], first.shape[1], height, width)
    return empty_map(first, size, is_channels_last(first))


def _fake_backward(
    grad: Tensor, rois: Tensor, feature_sizes: Sequence[int], *rule: object
) -> list[Tensor]:
    channels_last = bool(rule[-2])
    batch_and_channels = feature_sizes[:2]
    return [
        empty_map(grad, [*batch_and_channels, *feature_sizes[i : i + 2]], channels_last)
        for i in range(2, len(feature_sizes), 2)
    ]


def _setup_context(ctx: Any, inputs: tuple, output: object) -> None:
    features, rois, ctx.scales, _, _, *ctx.rule = inputs
    ctx.save_for_backward(rois)
    # Batch size, channels, then height and width of each level.
    ctx.feature_sizes = [*features[0].shape[:2]]
    for level in features:
        ctx.feature_sizes += level.shape[2:]
    ctx.channels_last = is_channels_last(features[0])


def _backward(ctx: Any, grad: Tensor) -> tuple[object, ...]:
    (rois,) = ctx.saved_tensors
    gradients = torch.ops.maskrcnn.multilevel_roi_align_backward(
        grad,
        rois,
        ctx.feature_sizes,
        ctx.scales,
        *ctx.rule,
        ctx.channels_last,
        torch.are_deterministic_algorithms_enabled(),
    )
    return gradients, None, None, None, None, None, None, None, None, None


def _setup_double_context(ctx: Any, inputs: tuple, output: object) -> None:
    grad, rois, _, ctx.scales, *ctx.rule = inputs
    ctx.save_for_backward(rois)
    ctx.pooled_size = grad.shape[2:]


def _double_backward(ctx: Any, grads: Sequence[Tensor]) -> tuple[object, ...]:
    (rois,) = ctx.saved_tensors
    *rule, _, _ = ctx.rule
    pooled = torch.ops.maskrcnn.multilevel_roi_align(
        grads, rois, ctx.scales, *ctx.pooled_size, *rule
    )
    return pooled, None, None, None, None, None, None, None, None, None, None


on_load(_register)
