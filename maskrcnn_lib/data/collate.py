"""From transformed samples to one batch."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.image_list import ImageList, to_image_list


class TransformedSample(NamedTuple):
    """One image as the network takes it.

    Attributes:
        image: (3, H, W) float32.
        target: its objects, in its pixels.
        index: of the image in the data set.
        seed: of all that is random about this use of it.
    """

    image: Tensor
    target: BoxList
    index: int
    seed: int


class Batch(NamedTuple):
    """What the loader yields.

    Attributes:
        images: padded to one size; with the proposals of the targets where they have any.
        targets: the objects of each image, in its pixels.
        indices: of the images in the data set.
        seeds: (N,) int64, of whatever the model draws at random for each image.
    """

    images: ImageList
    targets: list[BoxList]
    indices: list[int]
    seeds: Tensor

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """Images, targets and seeds on ``device``; polygons stay on the CPU."""
        return Batch(
            self.images.to(device, non_blocking=non_blocking),
            [target.to(device, non_blocking=non_blocking) for target in self.targets],
            self.indices,
            self.seeds.to(device, non_blocking=non_blocking),
        )


class BatchCollator:
    """Makes a batch of samples; a ``collate_fn``.

    Args:
        size_divisible: height and width of the batch become multiples of this; 0: no rounding.
        pad_to: heights and widths; a batch takes the smallest of them that holds its images, and
            is as large as its images where none does.

    Raises:
        ValueError: ``pad_to`` holds something else than two positive numbers.
    """

    def __init__(self, size_divisible: int = 0, pad_to: Sequence[Sequence[int]] = ()) -> None:
        self.size_divisible = size_divisible
        for size in pad_to:
            if not isinstance(size, list | tuple) or len(size) != 2 or min(size) <= 0:
                raise ValueError(
                    f"DATALOADER.PAD_TO holds {size!r}, expected [height, width] pairs such as "
                    "[[800, 1344], [1344, 800]]"
                )
        self.pad_to = sorted(((height, width) for height, width in pad_to), key=math.prod)

    def __call__(self, samples: Sequence[TransformedSample]) -> Batch:
        pixels = [sample.image for sample in samples]
        height, width = (max(image.shape[axis] for image in pixels) for axis in (1, 2))
        holding = (size for size in self.pad_to if size[0] >= height and size[1] >= width)
        images = to_image_list(pixels, self.size_divisible, at_least=next(holding, (0, 0)))
        given = [sample.target.proposals for sample in samples]
        if all(regions is not None for regions in given):
            images.proposals = given
        return Batch(
            images,
            [sample.target for sample in samples],
            [sample.index for sample in samples],
            torch.tensor([sample.seed for sample in samples], dtype=torch.int64),
        )
