"""Boxes as offsets from a reference box (Girshick et al., Rich feature hierarchies, appendix C).

Coordinates are continuous: width = x2 - x1. The closed-pixel coder of the older toolboxes gives the
same numbers, because its boxes are ours with x2 and y2 one smaller.
"""

import math

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
    """

    def __init__(
        self,
        weights: tuple[float, float, float, float],
        bbox_xform_clip: float = MAX_LOG_SCALE,
    ) -> None:
        if len(weights) != 4:
            raise ValueError(f"weights must hold 4 numbers, one per offset; got {tuple(weights)}")
        self.weights = tuple(float(weight) for weight in weights)
        self.bbox_xform_clip = bbox_xform_clip

    def encode(self, reference_boxes: Tensor, proposals: Tensor) -> Tensor:
        """Returns the offsets that lead from ``proposals`` to ``reference_boxes``.

        Args:
            reference_boxes: (..., 4) xyxy in pixels, usually ground truth.
            proposals: (..., 4) xyxy in pixels, of the same shape.

        Returns:
            (..., 4) offsets (dx, dy, dw, dh), weighted.
        """
        x, y, width, height = _centre_and_size(proposals)
        target_x, target_y, target_width, target_height = _centre_and_size(reference_boxes)
        weight_x, weight_y, weight_width, weight_height = self.weights
        return torch.stack(
            (
                weight_x * (target_x - x) / width,
                weight_y * (target_y - y) / height,
                weight_width * torch.log(target_width / width),
                weight_height * torch.log(target_height / height),
            ),
            dim=-1,
        )

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
        x, y, width, height = _centre_and_size(boxes.to(offsets.dtype).unsqueeze(-2))  # (..., 1)
        weight_x, weight_y, weight_width, weight_height = self.weights
        dx, dy, dw, dh = offsets.unbind(-1)  # (..., k)
        x = x + dx / weight_x * width
        y = y + dy / weight_y * height
        half_width = 0.5 * width * torch.exp((dw / weight_width).clamp(max=self.bbox_xform_clip))
        half_height = 0.5 * height * torch.exp((dh / weight_height).clamp(max=self.bbox_xform_clip))
        corners = (x - half_width, y - half_height, x + half_width, y + half_height)
        return torch.stack(corners, dim=-1).flatten(-2)


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centre x, centre y, width, height of xyxy boxes (..., 4); each of shape (...)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    width, height = x2 - x1, y2 - y1
    return x1 + 0.5 * width, y1 + 0.5 * height, width, height


def clip_boxes(boxes: Tensor, image_sizes: Tensor) -> Tensor:
    """Moves the corners of the boxes into their image.

    Args:
        boxes: (N, K, 4) xyxy in pixels.
        image_sizes: (N, 2) heights and widths in pixels.
    """
    height, width = image_sizes.to(boxes.dtype).unbind(-1)
    limit = torch.stack((width, height, width, height), dim=-1)  # (N, 4)
    return torch.minimum(boxes.clamp(min=0), limit[:, None])
