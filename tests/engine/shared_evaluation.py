"""Fake models on fake data sets, one per kind of rules; as a script, one rank of two of them."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.engine.inference import inference
from maskrcnn_lib.engine.measuring import measure_dataset
from maskrcnn_lib.evaluation.scores import flat_scores
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.image_list import to_image_list
from maskrcnn_lib.structures.keypoint import Keypoints
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask
from maskrcnn_lib.utils.comm import get_rank, get_world_size

IMAGES = 7  # not a multiple of the ranks
NAMES = ("__background", "cat", "dog")
POINTS = 17


class FakeDataset:
    """The number of an image stands in its first pixel."""

    def __init__(self):
        self.categories = dict(enumerate(NAMES[1:], start=1))

    def __len__(self):
        return IMAGES

    def get_img_info(self, index):
        return {"height": 16, "width": 20}

    def __getitem__(self, index):
        image = np.full((16, 20, 3), index, np.uint8)
        bottom = 9 + index / 2
        target = BoxList(torch.tensor([[2.0, 3.0, 12.0, bottom]]), (20, 16))
        target.add_field("labels", torch.tensor([1 + index % 2]))
        polygon = [2, 3, 12, 3, 12, bottom, 2, bottom]
        target.add_field("masks", SegmentationMask([[polygon]], (20, 16)))
        points = torch.tensor([[5.0, 6.0, 2.0]]).expand(1, POINTS, 3)
        target.add_field("keypoints", Keypoints(points, (20, 16)))
        return image, target, index


class FakeVOC(FakeDataset):
    evaluation_rules = "voc"


class FakeCityscapes(FakeDataset):
    evaluation_rules = "cityscapes"

    def __init__(self):
        self.categories = dict(zip((24, 26), NAMES[1:], strict=True))

    def instance_ids(self, index):
        ids = np.zeros((16, 20), np.int32)
        ids[1:14, 2:12] = (24000, 26000)[index % 2]
        return ids


class FakeDetector:
    """Finds about as many things as the image's number says."""

    class_names = NAMES
    dialect = get_dialect("torchvision")
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
        points = 6 + torch.rand(count, POINTS, 3, generator=generator)
        found.add_field("keypoints", Keypoints(points, found.size))
        return found


class FakeProposer(FakeDetector):
    """The same without heads."""

    class_names = ()
    only_proposes = True

    def __call__(self, images):
        proposals = []
        for found in super().__call__(images):
            proposals.append(BoxList(found.bbox, found.size))
            proposals[-1].add_field("objectness", found.get_field("scores"))
        return proposals


class FakeModel(nn.Module):
    """The detector as a module that takes images of twice the size."""

    def forward(self, images):
        outputs = []
        for number in images.tensors[:, 0, 0, 0]:
            found = FakeDetector._find(int(number), (16, 20))
            larger = BoxList(found.bbox * 2, (40, 32))
            for name in ("scores", "labels", "mask"):
                larger.add_field(name, found.get_field(name))
            outputs.append(larger)
        return outputs


class FakeLoader:
    """Batches of two images; the first image comes on all ranks."""

    dataset = FakeDataset()

    def __iter__(self):
        mine = [0, *range(get_rank(), IMAGES, get_world_size())]
        for start in range(0, len(mine), 2):
            indices = mine[start : start + 2]
            images = [torch.full((3, 32, 40), float(index)) for index in indices]
            yield to_image_list(images), None, indices, None


CASES = {
    "coco": (FakeDetector, FakeDataset),
    "voc": (FakeDetector, FakeVOC),
    "cityscapes": (FakeDetector, FakeCityscapes),
    "proposals": (FakeProposer, FakeDataset),
}


def measure(folder):
    """All numbers by case; None on the second rank."""
    numbers = {}
    for name, (detector, dataset) in CASES.items():
        outcome = measure_dataset(detector(), "val", dataset(), folder / name, progress=False)
        numbers[name] = None if outcome is None else flat_scores("val", outcome[0])
    scores = inference(
        FakeModel(),
        FakeLoader(),
        "val",
        iou_types=("bbox", "segm"),
        device="cpu",
        output_folder=folder / "loader",
        dialect="torchvision",
    )
    numbers["loader"] = None if scores is None else flat_scores("val", scores)
    return numbers


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
