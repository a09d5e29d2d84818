"""From a uint8 RGB image to the normalised float tensor that the network takes."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.config.pixels import pixel_statistics
from maskrcnn_lib.data.transforms.resize import OutputSizeRule, resized_size


def check_image(image: Any) -> None:
    """Raises unless this is a (H, W, 3) uint8 array with pixels.

    Raises:
        TypeError: it is no array.
        ValueError: it is another array.
    """
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"image must be a (H, W, 3) uint8 numpy array, got {type(image).__name__}; "
            "maskrcnn_lib.data.image_io.read_image(path) gives one of a file in RGB order"
        )
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"image must be a (H, W, 3) uint8 array, got {image.shape} of {image.dtype}"
        )
    if not image.size:
        raise ValueError(f"image must have pixels, got {image.shape}")


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
        self.mean, self.std = tuple(mean), tuple(std)
        self._mean = torch.tensor(mean, dtype=torch.float32)
        self._std = torch.tensor(std, dtype=torch.float32)
        self._has_std = bool((self._std != 1).any())

    def size_of(
        self,
        height: int,
        width: int,
        *,
        min_size: int | None = None,
        max_size: int | None = None,
    ) -> tuple[int, int]:
        """(height, width) that an image gets, with other limits where they are given."""
        return resized_size(
            height,
            width,
            min_size=min_size or self.min_size,
            max_size=self.max_size if max_size is None else max_size,
            rule=self.output_size,
        )

    def __call__(self, image: np.ndarray, *, size: tuple[int, int] | None = None) -> Tensor:
        """Resizes and normalises.

        Args:
            image: (H, W, 3) uint8 RGB.
            size: (H', W') to resize to, instead of what ``min_size`` and ``max_size`` give.

        Returns:
            (3, H', W') float32.

        Raises:
            ValueError: not such an image.
        """
        check_image(image)
        size = size or self.size_of(image.shape[0], image.shape[1])
        # channels are swapped first, where there are the fewest pixels
        pixels = _swap_channels(image) if self.to_bgr255 else torch.from_numpy(_writable(image))
        if self.resize == "antialias":
            return self._normalise(_resize_pixels(pixels, size)).permute(2, 0, 1)
        normalised = self._normalise(pixels).permute(2, 0, 1).contiguous()
        return _interpolate(normalised, size, align_corners=self.resize == "align_corners")

    def _normalise(self, pixels: Tensor) -> Tensor:
        """(H, W, 3) uint8 to float32, in place over whole rows, which is faster than per pixel."""
        height, width, channels = pixels.shape
        rows = pixels.reshape(height, width * channels).float()
        if not self.to_bgr255:
            rows.div_(255.0)
        rows.sub_(self._mean.repeat(width))
        if self._has_std:
            rows.div_(self._std.repeat(width))
        return rows.view(height, width, channels)


def _writable(image: np.ndarray) -> np.ndarray:
    """The image in one piece and writable, as torch wants it; copied only where it is not."""
    return np.require(image, requirements=("C", "W"))


def _swap_channels(image: np.ndarray) -> Tensor:
    """(H, W, 3) RGB to BGR, as a new tensor."""
    swapped = np.empty(image.shape, dtype=np.uint8)
    for channel in range(3):
        swapped[..., channel] = image[..., 2 - channel]
    return torch.from_numpy(swapped)


def _resize_pixels(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Antialiased bilinear on (H, W, 3) uint8; gives the same layout."""
    if tuple(pixels.shape[:2]) == size:
        return pixels
    # As a batch of one from the start, so that torch recognises channels_last and takes the
    # vectorised kernel, three times as fast.
    batch = pixels[None].permute(0, 3, 1, 2)
    resized = F.interpolate(batch, size=size, mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1)[0].contiguous()


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A (H, W, 3) uint8 image in another (height, width), antialiased bilinear."""
    return _resize_pixels(torch.from_numpy(_writable(image)), size).numpy()


def _interpolate(pixels: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    if tuple(pixels.shape[-2:]) == size:
        return pixels
    return F.interpolate(pixels[None], size=size, mode="bilinear", align_corners=align_corners)[0]


def build_transform(cfg: Any, *, min_size: int | None = None) -> ImageTransform:
    """The transform used for testing and demos.

    Args:
        cfg: reads INPUT.* and MODEL.DIALECT.
        min_size: short side instead of ``INPUT.MIN_SIZE_TEST``.
    """
    dialect = get_dialect(cfg.MODEL.DIALECT)
    mean, std = pixel_statistics(cfg)
    return ImageTransform(
        min_size=min_size or cfg.INPUT.MIN_SIZE_TEST,
        max_size=cfg.INPUT.MAX_SIZE_TEST,
        mean=mean,
        std=std,
        to_bgr255=cfg.INPUT.TO_BGR255,
        resize=dialect.resize,
        output_size=dialect.output_size,
    )
