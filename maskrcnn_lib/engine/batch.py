"""What a training loader yields, and how it goes to the model.

A batch holds images (ImageList), targets (one BoxList per image), the images' indices in the data
set and, from loaders that give them, one seed per image.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskrcnn_lib.checkpoint.native import write_atomically
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.image_list import ImageList


class Part(NamedTuple):
    """Images that go through the model together.

    Attributes:
        images: (N, 3, H, W) with their sizes.
        targets: N BoxLists.
        seeds: (N,) int64 of what the model draws at random; None where the loader gives none.
        share: N relative to the batch that it was cut from.
    """

    images: ImageList
    targets: list[BoxList]
    seeds: Tensor | None
    share: float


def split(batch: Sequence[Any], parts: int, device: torch.device) -> Iterator[Part]:
    """Cuts a batch into at most ``parts`` parts of nearly equal size.

    The images go to the device of the model in channels_last order; targets stay where they are,
    because the model checks and packs them first.
    """
    images, targets = batch[0], batch[1]
    seeds = batch[3] if len(batch) > 3 else None
    size = -(-len(images) // parts)
    for start in range(0, len(images), size):
        chosen = slice(start, min(start + size, len(images)))
        part = images.part(chosen).to(device, memory_format=torch.channels_last, non_blocking=True)
        yield Part(
            part,
            list(targets[chosen]),
            None if seeds is None else seeds[chosen],
            len(part) / len(images),
        )


def describe_images(batch: Sequence[Any], dataset: Any) -> list[str]:
    """Each image of a batch as ``index (id 17, street.jpg)``, with what the data set says of it."""
    dataset = getattr(dataset, "dataset", dataset)  # inside of what transforms its samples
    described = []
    for index in batch[2]:
        info = dataset.get_img_info(int(index)) if hasattr(dataset, "get_img_info") else {}
        parts = [f"id {info['id']}"] if "id" in info else []
        parts += [str(info["file_name"])] if "file_name" in info else []
        described.append(f"{int(index)} ({', '.join(parts)})" if parts else str(int(index)))
    return described


def dump_batch(batch: Sequence[Any], path: str | Path, **extra: Any) -> None:
    """Writes a batch with ``torch.save``, as tensors and plain values that ``torch.load`` trusts.

    Args:
        **extra: plain values to store with it.
    """
    images, targets = batch[0], batch[1]
    content = {
        "images": images.tensors.cpu(),
        "image_sizes": [list(size) for size in images.image_sizes],
        "indices": [int(index) for index in batch[2]],
        "boxes": [target.convert("xyxy").bbox.cpu() for target in targets],
        "labels": [
            target.get_field("labels").cpu() if target.has_field("labels") else None
            for target in targets
        ],
        **extra,
    }
    write_atomically(Path(path), content)
