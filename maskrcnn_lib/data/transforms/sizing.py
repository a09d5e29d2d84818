"""The random size at which the network sees a training image."""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from maskrcnn_lib.data.transforms.crop import crop_sample, random_window
from maskrcnn_lib.data.transforms.resize import OutputSizeRule, resized_size
from maskrcnn_lib.structures.bounding_box import BoxList


class Sizing(Protocol):
    """Chooses the (height, width) to which the image is then resized; may crop it before."""

    def __call__(
        self, image: np.ndarray, target: BoxList, rng: np.random.Generator
    ) -> tuple[np.ndarray, BoxList, tuple[int, int]]: ...


class RandomShortSide:
    """The short side gets one of several sizes; the long side follows, up to a limit.

    Args:
        sizes: short sides in pixels; for ``"range"`` the smallest and the largest.
        max_size: limit of the long side; 0 for none.
        sampling: ``"choice"`` draws one of ``sizes``, ``"range"`` any whole number between both.
        rule: rounding of the size.

    Raises:
        ValueError: no sizes; for ``"range"``, not two in order.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        max_size: int,
        *,
        sampling: Literal["choice", "range"] = "choice",
        rule: OutputSizeRule,
    ) -> None:
        if not sizes:
            raise ValueError("at least one size of the short side is needed")
        if sampling == "range" and (len(sizes) != 2 or sizes[0] > sizes[1]):
            raise ValueError(f"a range of sizes needs (smallest, largest), got {tuple(sizes)}")
        self.sizes = tuple(sizes)
        self.max_size = max_size
        self.sampling = sampling
        self.rule = rule

    def __call__(
        self, image: np.ndarray, target: BoxList, rng: np.random.Generator
    ) -> tuple[np.ndarray, BoxList, tuple[int, int]]:
        if self.sampling == "range":
            short = int(rng.integers(self.sizes[0], self.sizes[1] + 1))
        else:
            short = self.sizes[int(rng.integers(len(self.sizes)))]
        height, width = image.shape[:2]
        size = resized_size(height, width, min_size=short, max_size=self.max_size, rule=self.rule)
        return image, target, size


class LargeScaleJitter:
    """Scales an image by a wide range and cuts what exceeds a square (Ghiasi et al., 2021).

    At scale 1 the long side fills the square; below, the rest of the square is left to padding.

    Args:
        size: side of the square in pixels.
        scales: smallest and largest scale.
    """

    def __init__(self, size: int, *, scales: tuple[float, float] = (0.1, 2.0)) -> None:
        self.size = size
        self.scales = scales

    def __call__(
        self, image: np.ndarray, target: BoxList, rng: np.random.Generator
    ) -> tuple[np.ndarray, BoxList, tuple[int, int]]:
        height, width = image.shape[:2]
        factor = rng.uniform(*self.scales) * self.size / max(height, width)
        # cut before resizing, so that no pixel is computed in vain
        window = [min(side, max(1, round(self.size / factor))) for side in (height, width)]
        if window != [height, width]:
            image, target = crop_sample(image, target, random_window(image.shape, *window, rng))
        rows, columns = (min(self.size, max(1, round(side * factor))) for side in window)
        return image, target, (rows, columns)
