"""Random changes of brightness, contrast, saturation and hue."""

import numpy as np
import torch

from maskrcnn_lib.structures.bounding_box import BoxList


class ColorJitter:
    """Changes the four by random amounts, in random order, as torchvision's transform of the name.

    Args:
        brightness, contrast, saturation: largest relative change; factors are drawn from
            max(0, 1 - v) .. 1 + v.
        hue: largest shift, 0 .. 0.5 of the colour circle.

    Raises:
        ValueError: a negative value, or a hue above 0.5.
    """

    def __init__(
        self,
        *,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
    ) -> None:
        amounts = {
            "brightness": brightness,
            "contrast": contrast,
            "saturation": saturation,
            "hue": hue,
        }
        for name, amount in amounts.items():
            if amount < 0 or (name == "hue" and amount > 0.5):
                limits = "0 .. 0.5" if name == "hue" else "at least 0"
                raise ValueError(f"{name} must be {limits}, got {amount}")
        self.ranges = {
            name: (-amount, amount) if name == "hue" else (max(0.0, 1 - amount), 1 + amount)
            for name, amount in amounts.items()
            if amount > 0
        }

    def __call__(
        self, image: np.ndarray, target: BoxList, rng: np.random.Generator
    ) -> tuple[np.ndarray, BoxList]:
        if not self.ranges:
            return image, target
        from torchvision.transforms.v2 import functional

        pixels = torch.from_numpy(image).permute(2, 0, 1)  # (3, H, W)
        for name in rng.permutation(list(self.ranges)):
            amount = rng.uniform(*self.ranges[name])
            pixels = getattr(functional, f"adjust_{name}")(pixels, amount)
        return pixels.permute(1, 2, 0).contiguous().numpy(), target
