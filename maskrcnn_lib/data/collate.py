"""From transformed samples to one batch."""

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
    """

    def __init__(self, size_divisible: int = 0) -> None:
        self.size_divisible = size_divisible

    def __call__(self, samples: Sequence[TransformedSample]) -> Batch:
        images = to_image_list([sample.image for sample in samples], self.size_divisible)
        given = [sample.target.proposals for sample in samples]
        if all(regions is not None for regions in given):
            images.proposals = given
        return Batch(
            images,
            [sample.target for sample in samples],
            [sample.index for sample in samples],
            torch.tensor([sample.seed for sample in samples], dtype=torch.int64),
        )
