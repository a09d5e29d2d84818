"""Random moves of what the network sees (Chen et al. 2021, arXiv:2103.09460, section 5.1)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from maskrcnn_lib.data.transforms.crop import crop_objects
from maskrcnn_lib.structures.bounding_box import BoxList


class RandomShift:
    """Moves the resized image by some pixels; what enters it is black.

    A map of stride 32 alone hardly tells neighbouring positions apart; this shows it objects at all
    of them. A move that leaves no object in the image is not made.

    Args:
        probability: of moving at all.
        pixels: largest move along x and along y, less than the image's side.
        black: value of each channel of a black pixel.
    """

    def __init__(self, *, probability: float, pixels: int, black: Sequence[float]) -> None:
        self.probability = probability
        self.pixels = pixels
        self.black = torch.tensor(black, dtype=torch.float32)

    def __call__(
        self, pixels: Tensor, target: BoxList, rng: np.random.Generator
    ) -> tuple[Tensor, BoxList]:
        """Moves one sample.

        Args:
            pixels: (3, H, W) resized and normalised.
            target: its objects, in mode xyxy.
            rng: source of all randomness.
        """
        if rng.random() >= self.probability:
            return pixels, target
        height, width = pixels.shape[1:]
        right, down = (self._draw(side, rng) for side in (width, height))
        objects = crop_objects(target, (-right, -down, width - right, height - down))
        if len(target) and not len(objects):
            return pixels, target
        moved = torch.empty_like(pixels).copy_(self.black[:, None, None])
        moved[:, _to(down), _to(right)] = pixels[:, _to(-down), _to(-right)]
        return moved, objects

    def _draw(self, side: int, rng: np.random.Generator) -> int:
        limit = min(self.pixels, side - 1)
        return int(rng.integers(-limit, limit + 1))


def _to(move: int) -> slice:
    """Where along a side the pixels come to lie that stay in the image; they are from ``-move``."""
    return slice(move, None) if move >= 0 else slice(None, move)
