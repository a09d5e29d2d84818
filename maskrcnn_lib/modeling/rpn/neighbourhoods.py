"""What a 3x3 convolution sees of a feature pyramid at a few positions.

The RPN's loss looks at 256 anchors of an image, its head at a quarter of a million. Going back
through the head's 3x3 convolution over whole maps, nearly all of whose gradients are zero, takes
15 % of the arithmetic of a training step of Mask R-CNN (R-50-FPN). Computing the head once more at
the chosen positions alone gives the same loss and gradients for less than a hundredth of that.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def neighbourhoods(features: Sequence[Tensor], positions: Tensor, table: Tensor) -> Tensor:
    """The 3x3 neighbourhood of each position; zeros beyond the edges of its map.

    Args:
        features: maps (N, C, H, W), finest first; views are enough where they are channels_last.
        positions: (N, S) int64, counted level by level and row by row.
        table: what ``neighbour_table`` gives for these maps.

    Returns:
        (N, S, 9 * C): row by row, each neighbour with its C features.
    """
    count, channels = features[0].shape[:2]
    rows = [feature.flatten(2).transpose(1, 2) for feature in features]  # (N, H * W, C) each
    nothing = rows[0].new_zeros((count, 1, channels))
    rows = torch.cat([*rows, nothing], dim=1)  # (N, P + 1, C)
    chosen = table[positions]  # (N, S, 9)
    images = torch.arange(count, device=positions.device)[:, None, None] * rows.shape[1]
    around = rows.flatten(0, 1).index_select(0, (chosen + images).flatten())
    return around.reshape(*positions.shape, 9 * channels)


def neighbour_table(shapes: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """(P, 9) int64: the positions around each of the P positions of maps of these heights and
    widths; P for what is outside. For ``neighbourhoods``, once per shape."""
    total = sum(height * width for height, width in shapes)
    tables, first = [], 0
    for height, width in shapes:
        numbers = torch.arange(first, first + height * width, device=device)
        padded = F.pad(numbers.view(height, width), (1, 1, 1, 1), value=total)
        tables.append(padded.unfold(0, 3, 1).unfold(1, 3, 1).reshape(-1, 9))
        first += height * width
    return torch.cat(tables)
