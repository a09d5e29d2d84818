"""Boxes as offsets from a reference box (Girshick et al., Rich feature hierarchies, appendix C).

Coordinates are continuous: width = x2 - x1. The closed-pixel coder of the older toolboxes gives the
same numbers, because its boxes are ours with x2 and y2 one smaller.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# Widths and heights grow at most by the factor 1000 / 16, so that exp cannot overflow.
MAX_LOG_SCALE = math.log(1000.0 / 16)


class BoxCoder:
    """Turns boxes into the four numbers that a head regresses, and back.

    Args:
        weights: factors of (dx, dy, dw, dh); (1, 1, 1, 1) in the RPN, (10, 10, 5, 5) in the box
            head of all toolboxes.
        bbox_xform_clip: upper bound of dw and dh (after division by the weights) when decoding.
        limit_shrinking: whether its negative is their lower bound, as in mmdetection.
        largest_shift: pixels by which a box's centre moves at most along x and y when decoding, as
            in YOLOF; None for no limit.
    """

    def __init__(
        self,
        weights: tuple[float, float, float, float],
        bbox_xform_clip: float = MAX_LOG_SCALE,
        *,
        limit_shrinking: bool = False,
        largest_shift: float | None = None,
    ) -> None:
        if len(weights) != 4:
            raise ValueError(f"weights must hold 4 numbers, one per offset; got {tuple(weights)}")
        self.weights = tuple(float(weight) for weight in weights)
        self.bbox_xform_clip = bbox_xform_clip
        self.smallest_log_scale = -bbox_xform_clip if limit_shrinking else None
        self.largest_shift = largest_shift

    def encode(self, reference_boxes: Tensor, proposals: Tensor) -> Tensor:
        """Returns the offsets that lead from ``proposals`` to ``reference_boxes``.

        Args:
            reference_boxes: (..., 4) xyxy in pixels, usually ground truth.
            proposals: (..., 4) xyxy in pixels, of the same shape.

        Returns:
            (..., 4) offsets (dx, dy, dw, dh), weighted.
        """
        boxes = torch.stack((proposals, reference_boxes))
        centres, sizes = _centre_and_size(boxes)  # (2, ..., 2) each
        size = sizes[0]
        shift = _times(centres[1] - centres[0], self.weights[:2]) / size
        scale = _times(torch.log(sizes[1] / size), self.weights[2:])
        return torch.cat((shift, scale), dim=-1)

    def decode(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Returns the boxes that the offsets ``rel_codes`` describe.

        Args:
            rel_codes: (..., 4 * k) offsets, k sets (for instance one per class) for each box.
            boxes: (..., 4) xyxy in pixels, of the same leading shape.

        Returns:
            (..., 4 * k) xyxy in pixels, at least float32.
        """
        offsets = rel_codes.unflatten(-1, (-1, 4))  # (..., k, 4)
        offsets = offsets.to(torch.promote_types(offsets.dtype, torch.float32))
        centre, size = _centre_and_size(boxes.to(offsets.dtype).unsqueeze(-2))  # (..., 1, 2)
        shift, scale = offsets.split(2, dim=-1)  # (..., k, 2)
        shift = _over(shift, self.weights[:2]) * size
        if self.largest_shift is not None:
            shift = shift.clamp(-self.largest_shift, self.largest_shift)
        centre = centre + shift
        scale = _over(scale, self.weights[2:]).clamp(self.smallest_log_scale, self.bbox_xform_clip)
        half_size = 0.5 * size * torch.exp(scale)
        return torch.cat((centre - half_size, centre + half_size), dim=-1).flatten(-2)


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centre (..., 2) and size (..., 2) of xyxy boxes (..., 4); x first."""
    start, end = boxes.split(2, dim=-1)
    size = end - start
    return start + 0.5 * size, size


def _times(pairs: Tensor, factors: Sequence[float]) -> Tensor:
    """Each of the pairs (..., 2) times its own factor; in one call where there is but one."""
    first, second = factors
    if first == second:
        return pairs if first == 1 else pairs * first
    x, y = pairs.unbind(-1)
    return torch.stack((x * first, y * second), dim=-1)


def _over(pairs: Tensor, divisors: Sequence[float]) -> Tensor:
    """As ``_times``, divided."""
    first, second = divisors
    if first == second:
        return pairs if first == 1 else pairs / first
    x, y = pairs.unbind(-1)
    return torch.stack((x / first, y / second), dim=-1)


def extend_boxes(boxes: Tensor, end_offset: float) -> Tensor:
    """The boxes with ``end_offset`` (``Dialect.box_end_offset``) added to x2 and y2.

    Args:
        boxes: (..., 4) xyxy, or (..., 5) with the index of the image in front.
    """
    if not end_offset:
        return boxes
    return torch.cat((boxes[..., :-2], boxes[..., -2:] + end_offset), dim=-1)


def clip_boxes(boxes: Tensor, image_sizes: Tensor) -> Tensor:
    """Moves the corners of the boxes into their image.

    Args:
        boxes: (N, K, 4) xyxy in pixels.
        image_sizes: (N, 2) heights and widths in pixels.
    """
    height, width = image_sizes.to(boxes.dtype).unbind(-1)
    limit = torch.stack((width, height, width, height), dim=-1)  # (N, 4)
    return torch.minimum(boxes.clamp(min=0), limit[:, None])
