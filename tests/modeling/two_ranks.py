"""Losses and gradients of four images, alone or shared by the ranks of a distributed run.

As a script it is one rank on the CPU, which writes them as JSON. Usage:
two_ranks.py RENDEZVOUS_FILE OUTPUT_DIRECTORY, with RANK and WORLD_SIZE in the environment.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.engine.processes import leave_together
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

SMALL = {
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
    "MODEL.RESNETS.BACKBONE_OUT_CHANNELS": 16,
    "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM": 32,
    "MODEL.ROI_BOX_HEAD.NUM_CLASSES": 4,
    "MODEL.ROI_MASK_HEAD.CONV_LAYERS": [16, 16],
    "MODEL.RPN.PRE_NMS_TOP_N_TRAIN": 200,
    "MODEL.RPN.FPN_POST_NMS_TOP_N_TRAIN": 50,
    "MODEL.RPN.FPN_POST_NMS_PER_BATCH": False,
}
OBJECTS = {
    "objects": [1, 3, 1, 2],
    "an image without objects": [3, 1, 2, 0],
    "no objects": [2, 1, 0, 0],
}
SIZE = 96


def make_target(count: int, generator: torch.Generator) -> BoxList:
    corners = torch.rand(count, 2, 2, generator=generator) * 60
    boxes = torch.cat((corners.amin(dim=1), corners.amax(dim=1) + 30), dim=1)
    target = BoxList(boxes, (SIZE, SIZE))
    target.add_field("labels", torch.randint(1, 4, (count,), generator=generator))
    outlines = [[[x1, y1, x2, y1, x2, y2, x1, y2]] for x1, y1, x2, y2 in boxes.tolist()]
    target.add_field("masks", SegmentationMask(outlines, (SIZE, SIZE)))
    return target


def learn(objects: tuple[int, ...], rank: int, world_size: int) -> dict[str, dict[str, float]]:
    """Losses and squared gradients of this rank's share of four images with so many objects."""
    torch.manual_seed(0)
    overrides = [item for pair in SMALL.items() for item in pair]
    model = build_detection_model(get_cfg("e2e_mask_rcnn_R_50_FPN_1x", overrides)).train()
    if world_size > 1:
        model = DistributedDataParallel(model)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, SIZE, SIZE, generator=generator)
    targets = [make_target(count, generator) for count in objects]
    share = 4 // world_size
    mine = slice(rank * share, (rank + 1) * share)
    losses = model(images[mine], targets[mine], seeds=[10, 20, 30, 40][mine])
    sum(losses.values()).backward()
    return {
        "losses": {name: value.item() for name, value in losses.items()},
        "gradients": {
            name.removeprefix("module."): value.grad.square().sum().item()
            for name, value in model.named_parameters()
            if value.grad is not None
        },
    }


def learn_all(rank: int = 0, world_size: int = 1) -> dict[str, dict[str, dict[str, float]]]:
    """What ``learn`` returns, for each of OBJECTS."""
    return {case: learn(objects, rank, world_size) for case, objects in OBJECTS.items()}


def main(rendezvous: str, output: str) -> None:
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size
    )
    results = learn_all(rank, world_size)
    Path(output, f"{rank}.json").write_text(json.dumps(results))
    leave_together()


if __name__ == "__main__":
    main(*sys.argv[1:])
