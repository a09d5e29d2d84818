"""A fake detector on a fake data set; as a script, one rank of two that share it."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.engine.measuring import measure_dataset
from maskrcnn_lib.evaluation.scores import flat_scores
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

IMAGES = 7  # not a multiple of the ranks
NAMES = ("__background", "cat", "dog")


class FakeDataset:
    """The number of an image stands in its first pixel."""

    def __init__(self):
        self.categories = dict(enumerate(NAMES[1:], start=1))

    def __len__(self):
        return IMAGES

    def __getitem__(self, index):
        image = np.full((16, 20, 3), index, np.uint8)
        target = BoxList(torch.tensor([[2.0, 3.0, 12.0, 9.0 + index / 2]]), (20, 16))
        target.add_field("labels", torch.tensor([1 + index % 2]))
        polygon = [2, 3, 12, 3, 12, 9 + index / 2, 2, 9 + index / 2]
        target.add_field("masks", SegmentationMask([[polygon]], (20, 16)))
        return image, target, index


class FakeDetector:
    """Finds about as many things as the image's number says."""

    class_names = NAMES
    dialect = get_dialect("torchvision")
    pastes_at_pixel_centres = False
    only_proposes = False

    def __call__(self, images):
        return [self._find(int(image[0, 0, 0]), image.shape[:2]) for image in images]

    @staticmethod
    def _find(number, size):
        generator = torch.Generator().manual_seed(number)
        count = number % 3
        corners = torch.rand(count, 2, generator=generator) * 4
        found = BoxList(torch.cat([corners, corners + 9.1], dim=1), (size[1], size[0]))
        found.add_field("scores", torch.rand(count, generator=generator))
        found.add_field("labels", 1 + torch.arange(count) % 2)
        found.add_field("mask", torch.rand(count, 1, 28, 28, generator=generator))
        return found


def measure(folder):
    outcome = measure_dataset(FakeDetector(), "val", FakeDataset(), folder, progress=False)
    return None if outcome is None else flat_scores("val", outcome[0])


def main():
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2
    )
    scores = measure(folder)
    (folder / f"rank{rank}.json").write_text(json.dumps(scores))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
