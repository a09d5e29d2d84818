"""One training step of Mask R-CNN R-50-FPN against torchvision's, alternating in one run.

    OMP_NUM_THREADS=1 python benchmarks/training_step.py [--rounds 5] [--images 2] [--size 480 640]
        [--objects 8] [--threads 1] [--profile]

Both models have the same weights, images and ground truth, work in float32 and update by SGD. Times
are CPU time of the process, which other programs on the machine disturb little. Memory is the
largest growth of the process's resident memory during a step.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

NUM_CLASSES = 91


def make_truth(images: int, size: tuple[int, int], objects: int) -> list[BoxList]:
    """Ground truth of each image: octagons of many sizes."""
    height, width = size
    targets = []
    for _ in range(images):
        extent = 20 + torch.rand(objects, 2) ** 2 * torch.tensor([width, height]) * 0.6
        start = torch.rand(objects, 2) * (torch.tensor([width, height]) - extent)
        boxes = torch.cat((start, start + extent), dim=1)
        outlines = []
        for x1, y1, x2, y2 in boxes.tolist():
            w, h = (x2 - x1) / 3, (y2 - y1) / 3
            outline = [x1 + w, y1, x2 - w, y1, x2, y1 + h, x2, y2 - h]
            outline += [x2 - w, y2, x1 + w, y2, x1, y2 - h, x1, y1 + h]
            outlines.append([outline])
        target = BoxList(boxes, (width, height))
        target.add_field("labels", torch.randint(1, NUM_CLASSES, (objects,)))
        target.add_field("masks", SegmentationMask(outlines, (width, height)))
        targets.append(target)
    return targets


def peak_memory(step: Callable[[], object]) -> int:
    """Bytes by which the process's resident memory grows at most during a step (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # sets the mark to what is resident now
    before = _status("VmRSS")
    step()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{key} is not in /proc/self/status")


def our_step(model: nn.Module, images: Tensor, targets: list[BoxList]) -> Callable[[], float]:
    """A function that trains our model once."""
    model = model.to(memory_format=torch.channels_last)
    images = images.to(memory_format=torch.channels_last)
    return _stepper(model, lambda: model(images, targets))


def peer_step(model: nn.Module, images: Tensor, targets: list[BoxList]) -> Callable[[], float]:
    """A function that trains torchvision's model once. Bitmaps are drawn before, as it expects."""
    truth = [
        {
            "boxes": target.bbox,
            "labels": target.get_field("labels"),
            "masks": target.get_field("masks").get_mask_tensor().to(torch.uint8),
        }
        for target in targets
    ]
    return _stepper(model, lambda: model(list(images), truth))


def _stepper(model: nn.Module, losses: Callable[[], dict[str, Tensor]]) -> Callable[[], float]:
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.SGD(trained, 1e-4, momentum=0.9)

    def step() -> float:
        optimizer.zero_grad()
        loss = sum(losses().values())
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    """Prints both times and memories, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640))
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--profile", action="store_true", help="also list our operators by time")
    arguments = parser.parse_args()
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    size = tuple(arguments.size)
    peer = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=min(size), max_size=max(size)
    ).train()
    ours = build_detection_model(get_cfg("torchvision/maskrcnn_resnet50_fpn")).train()
    load_weights(ours, peer.state_dict())
    images = torch.rand(arguments.images, 3, *size)
    targets = make_truth(arguments.images, size, arguments.objects)
    steps = {
        "maskrcnn_lib": our_step(ours, images, targets),
        "torchvision": peer_step(peer, images, targets),
    }
    for step in steps.values():
        step()
    times = {name: [] for name in steps}
    memory = {name: [] for name in steps}
    for _ in range(arguments.rounds):
        for name, step in steps.items():
            start = time.process_time()
            memory[name].append(peak_memory(step))
            times[name].append(time.process_time() - start)
    for name in steps:
        seconds, megabytes = statistics.median(times[name]), max(memory[name]) / 1e6
        print(f"{name:14} {seconds:7.2f} s CPU   {megabytes:7.0f} MB")
    ratio = statistics.median(times["torchvision"]) / statistics.median(times["maskrcnn_lib"])
    memory_ratio = max(memory["torchvision"]) / max(memory["maskrcnn_lib"])
    print(f"{'ratio':14} {ratio:7.2f}         {memory_ratio:7.2f}")
    if arguments.profile:
        with torch.profiler.profile() as profile:
            steps["maskrcnn_lib"]()
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))


if __name__ == "__main__":
    main()
