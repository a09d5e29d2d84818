"""ImageList: images of different sizes in one padded batch that remembers their sizes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.utils.transfer import send


class ImageList:
    """A batch of images, each at the top left of its slot and padded right and below.

    Attributes:
        tensors: (N, C, H, W) batch.
        image_sizes: (height, width) of each image without padding.
        proposals: regions to look at in each image, in its pixels and with field ``objectness``;
            they stay on the CPU. None for models that propose regions themselves.
    """

    def __init__(
        self,
        tensors: Tensor,
        image_sizes: Sequence[tuple[int, int]],
        *,
        proposals: Sequence[BoxList] | None = None,
    ) -> None:
        """Takes the batch as it is.

        Raises:
            ValueError: not a 4-D batch, not one size per image, a size beyond the batch's, or not
                one list of proposals per image.
        """
        if tensors.dim() != 4:
            raise ValueError(f"tensors must be (N, C, H, W), got {tuple(tensors.shape)}")
        sizes = [(int(height), int(width)) for height, width in image_sizes]
        if len(sizes) != len(tensors):
            raise ValueError(f"{len(sizes)} image sizes for a batch of {len(tensors)}")
        for i, (height, width) in enumerate(sizes):
            if height > tensors.shape[2] or width > tensors.shape[3]:
                raise ValueError(
                    f"image {i} is {height} x {width}, larger than the batch's "
                    f"{tensors.shape[2]} x {tensors.shape[3]}; sizes are (height, width)"
                )
        self.tensors = tensors
        self.image_sizes = sizes
        self._sizes: Tensor | None = None
        if proposals is not None and len(proposals) != len(sizes):
            raise ValueError(f"proposals of {len(proposals)} images for a batch of {len(sizes)}")
        self.proposals = None if proposals is None else list(proposals)

    def __len__(self) -> int:
        return len(self.image_sizes)

    def size_tensor(self) -> Tensor:
        """(N, 2) int64 heights and widths without padding, sent to the batch's device once."""
        if self._sizes is None or self._sizes.device != self.tensors.device:
            self._sizes = send(torch.tensor(self.image_sizes), self.tensors.device)
        return self._sizes

    def __repr__(self) -> str:
        return f"ImageList(tensors={tuple(self.tensors.shape)}, image_sizes={self.image_sizes})"

    def to(self, *args: Any, **kwargs: Any) -> "ImageList":
        """The batch on another device or in another dtype; arguments as for ``Tensor.to``."""
        return self.with_tensors(self.tensors.to(*args, **kwargs))

    def with_tensors(self, tensors: Tensor) -> "ImageList":
        """The same images with other pixels."""
        return ImageList(tensors, self.image_sizes, proposals=self.proposals)

    def part(self, chosen: slice) -> "ImageList":
        """Some of the images."""
        given = None if self.proposals is None else self.proposals[chosen]
        return ImageList(self.tensors[chosen], self.image_sizes[chosen], proposals=given)

    def pin_memory(self) -> "ImageList":
        """The batch in page-locked memory, from where it travels to the GPU without waiting."""
        return self.with_tensors(self.tensors.pin_memory())


def _round_up(size: int, divisor: int) -> int:
    return -(-size // divisor) * divisor if divisor > 1 else size


def to_image_list(
    tensors: ImageList | Tensor | Sequence[Tensor],
    size_divisible: int = 0,
    *,
    at_least: tuple[int, int] = (0, 0),
) -> ImageList:
    """Makes one batch of images; what they do not fill is zero.

    A batch of several images lies in memory as channels_last; images that lie so too are copied
    fastest. Where no padding is needed, a single image, a batch or an ImageList is not copied.

    Args:
        tensors: an ImageList, a (N, C, H, W) batch, one (C, H, W) image, or a list of such images.
        size_divisible: height and width of the batch become multiples of this; 0 or 1: no rounding.
        at_least: smallest height and width of the batch.

    Raises:
        ValueError: no image, an image that is not (C, H, W), or images that differ in channels,
            dtype or device.
        TypeError: something else than images.
    """
    if isinstance(tensors, ImageList):
        padded = _pad_batch(tensors.tensors, tensors.image_sizes, size_divisible, at_least)
        return tensors.with_tensors(padded.tensors)
    if isinstance(tensors, Tensor):
        if tensors.dim() not in (3, 4):
            raise ValueError(f"expected (C, H, W) or (N, C, H, W), got {tuple(tensors.shape)}")
        batch = tensors if tensors.dim() == 4 else tensors[None]
        sizes = [tuple(batch.shape[-2:])] * len(batch)
        return _pad_batch(batch, sizes, size_divisible, at_least)
    if not isinstance(tensors, list | tuple):
        raise TypeError(f"expected an ImageList, a tensor or tensors, got {type(tensors).__name__}")
    _check_images(tensors)
    sizes = [tuple(image.shape[-2:]) for image in tensors]
    if len(tensors) == 1:
        return _pad_batch(tensors[0][None], sizes, size_divisible, at_least)
    height = _round_up(max(at_least[0], *(size[0] for size in sizes)), size_divisible)
    width = _round_up(max(at_least[1], *(size[1] for size in sizes)), size_divisible)
    batch = torch.empty(
        (len(tensors), tensors[0].shape[0], height, width),
        dtype=tensors[0].dtype,
        device=tensors[0].device,
        memory_format=torch.channels_last,
    )
    for slot, image, (bottom, right) in zip(batch, tensors, sizes, strict=True):
        slot[:, :bottom, :right] = image
        slot[:, bottom:] = 0
        slot[:, :bottom, right:] = 0
    return ImageList(batch, sizes)


def _pad_batch(
    batch: Tensor,
    sizes: Sequence[tuple[int, int]],
    size_divisible: int,
    at_least: tuple[int, int],
) -> ImageList:
    """An ImageList of ``batch``, padded as ``to_image_list`` says."""
    height, width = batch.shape[-2:]
    below = _round_up(max(height, at_least[0]), size_divisible) - height
    right = _round_up(max(width, at_least[1]), size_divisible) - width
    return ImageList(F.pad(batch, (0, right, 0, below)) if below or right else batch, sizes)


def _check_images(images: Sequence[Tensor]) -> None:
    """Raises unless all images can stand in one batch; names the one that cannot."""
    if not images:
        raise ValueError("no images: a batch needs at least one")
    for i, image in enumerate(images):
        if not isinstance(image, Tensor):
            raise TypeError(f"image {i} is {type(image).__name__}, expected a (C, H, W) tensor")
        if image.dim() != 3:
            raise ValueError(f"image {i} must be (C, H, W), got {tuple(image.shape)}")
        first = images[0]
        if (image.shape[0], image.dtype, image.device) != (
            first.shape[0],
            first.dtype,
            first.device,
        ):
            raise ValueError(
                f"image {i} has {image.shape[0]} channels, {image.dtype}, {image.device}, but "
                f"image 0 has {first.shape[0]} channels, {first.dtype}, {first.device}"
            )
