"""Generalised intersection over union as a loss of boxes (Rezatofighi et al. 2019,
arXiv:1902.09630)."""

import torch
from torch import Tensor

_EPS = 1e-7  # keeps boxes without area apart from 0 / 0, as torchvision's loss does


def giou_loss(boxes: Tensor, goals: Tensor) -> Tensor:
    """1 - GIoU of corresponding boxes: 0 where they agree, towards 2 the farther they are apart.

    Args:
        boxes: (..., 4) xyxy.
        goals: (..., 4) xyxy.

    Returns:
        (...) of the boxes' dtype.
    """
    x1, y1, x2, y2 = boxes.unbind(-1)
    u1, v1, u2, v2 = goals.unbind(-1)
    width = (torch.minimum(x2, u2) - torch.maximum(x1, u1)).clamp(min=0)
    height = (torch.minimum(y2, v2) - torch.maximum(y1, v1)).clamp(min=0)
    intersection = width * height
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - intersection
    hull_width = torch.maximum(x2, u2) - torch.minimum(x1, u1)
    hull_height = torch.maximum(y2, v2) - torch.minimum(y1, v1)
    hull = hull_width * hull_height
    return 1 - intersection / (union + _EPS) + (hull - union) / (hull + _EPS)
