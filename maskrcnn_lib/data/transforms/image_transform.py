"""From a uint8 RGB image to the normalised float tensor that the network takes."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.data.transforms.resize import OutputSizeRule, resized_size


class ImageTransform:
    """Resizes, reorders channels and normalises one image.

    Args:
        min_size: short side after resizing, in pixels.
        max_size: limit of the long side; 0 for none.
        mean, std: per channel, in the order and range that ``to_bgr255`` gives.
        to_bgr255: the network takes BGR in 0..255; otherwise RGB in 0..1.
        resize: ``"antialias"`` resizes the uint8 image with an antialiased triangle filter (equal
            to Pillow's BILINEAR up to one grey level); ``"float"`` and ``"align_corners"`` resize
            the normalised image by plain bilinear interpolation.
        output_size: rounding of the resized height and width.
    """

    def __init__(
        self,
        *,
        min_size: int,
        max_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        to_bgr255: bool,
        resize: Literal["antialias", "float", "align_corners"],
        output_size: OutputSizeRule,
    ) -> None:
        self.min_size = min_size
        self.max_size = max_size
        self.to_bgr255 = to_bgr255
        self.resize = resize
        self.output_size = output_size
        self._mean = torch.tensor(mean, dtype=torch.float32).view(3, 1, 1)
        self._std = torch.tensor(std, dtype=torch.float32).view(3, 1, 1)

    def __call__(self, image: np.ndarray) -> Tensor:
        """Args: image: (H, W, 3) uint8 RGB. Returns: (3, H', W') float32."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(
                f"image must be a (H, W, 3) uint8 array, got {image.shape} of {image.dtype}"
            )
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)  # (3, H, W)
        size = resized_size(
            image.shape[0],
            image.shape[1],
            min_size=self.min_size,
            max_size=self.max_size,
            rule=self.output_size,
        )
        if self.resize == "antialias":
            return self._normalise(_interpolate(pixels, size, antialias=True))
        return _interpolate(
            self._normalise(pixels), size, align_corners=self.resize == "align_corners"
        )

    def _normalise(self, pixels: Tensor) -> Tensor:
        scaled = pixels.flip(0).float() if self.to_bgr255 else pixels.float() / 255.0
        return (scaled - self._mean) / self._std


def _interpolate(
    pixels: Tensor, size: tuple[int, int], *, align_corners: bool = False, antialias: bool = False
) -> Tensor:
    if tuple(pixels.shape[-2:]) == size:
        return pixels
    return F.interpolate(
        pixels[None], size=size, mode="bilinear", align_corners=align_corners, antialias=antialias
    )[0]


def build_transform(cfg: Any, *, min_size: int | None = None) -> ImageTransform:
    """The transform used for testing and demos.

    Args:
        cfg: reads INPUT.* and MODEL.DIALECT.
        min_size: short side instead of ``INPUT.MIN_SIZE_TEST``.
    """
    dialect = get_dialect(cfg.MODEL.DIALECT)
    return ImageTransform(
        min_size=min_size or cfg.INPUT.MIN_SIZE_TEST,
        max_size=cfg.INPUT.MAX_SIZE_TEST,
        mean=cfg.INPUT.PIXEL_MEAN,
        std=cfg.INPUT.PIXEL_STD,
        to_bgr255=cfg.INPUT.TO_BGR255,
        resize=dialect.resize,
        output_size=dialect.output_size,
    )
