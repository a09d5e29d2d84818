"""Microseconds per RoI for mask targets: this library's operators against pycocotools and torch.

    OMP_NUM_THREADS=1 python benchmarks/mask_targets.py ANNOTATIONS.json [--rois 128] [--rounds 31]

Takes the objects of a COCO annotation file with polygons, and jitters their boxes into RoIs, as a
detector in training does: `--rois` of them, from as many objects. The peers go object by object:
polygons are cropped, scaled, and rasterised by pycocotools as in maskrcnn-benchmark; bitmaps are
cropped and interpolated by torch. All rows run in turn in each round; the table shows the median
over the rounds of the CPU time of the process, which other programs on the machine disturb little,
and how many times faster than its peer an operator is. Targets are compared first.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.nn import functional as F

from maskrcnn_lib.layers import bitmap_mask_targets, polygon_mask_targets
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

IMAGE_SIZE = (640, 640)  # COCO's photos are at most as large
JITTER = 0.15  # standard deviation of a RoI's edges, in widths or heights of its object
BITMAPS = 10  # objects that have bitmaps: about as many as a COCO image has


def _load(path: Path, count: int) -> tuple[SegmentationMask, Tensor]:
    """The masks of evenly chosen objects and one RoI for each: (count, 4) float32."""
    annotations = json.loads(path.read_text(encoding="utf-8"))["annotations"]
    usable = [a for a in annotations if isinstance(a["segmentation"], list) and a["area"] >= 32]
    chosen = [usable[i] for i in np.linspace(0, len(usable) - 1, count).astype(int)]
    masks = SegmentationMask([a["segmentation"] for a in chosen], IMAGE_SIZE)
    left, top, width, height = np.array([a["bbox"] for a in chosen]).T
    boxes = np.stack([left, top, left + width, top + height], axis=1)
    extent = np.stack([width, height, width, height], axis=1)
    boxes += np.random.default_rng(0).normal(size=boxes.shape) * JITTER * extent
    boxes[:, :2] = boxes[:, :2].clip(0, IMAGE_SIZE[0] - 2)
    boxes[:, 2:] = np.maximum(boxes[:, 2:].clip(0, IMAGE_SIZE[0]), boxes[:, :2] + 2)
    return masks, torch.from_numpy(boxes).float()


def _coco_targets(
    polygons: list[list[np.ndarray]], boxes: np.ndarray, size: int
) -> list[np.ndarray]:
    """Object by object, from polygons that are (K, 2) arrays already."""
    result = []
    for instance, box in zip(polygons, boxes, strict=True):
        scale = size / (box[2:] - box[:2])
        moved = [((polygon - box[:2]) * scale).reshape(-1) for polygon in instance]
        runs = coco_mask.merge(coco_mask.frPyObjects(moved, size, size))
        result.append(coco_mask.decode([runs])[:, :, 0])
    return result


def _torch_targets(bitmaps: Tensor, boxes: Tensor, instances: Tensor, size: int) -> list[Tensor]:
    result = []
    for instance, box in zip(instances.tolist(), boxes.tolist(), strict=True):
        x1, y1, x2, y2 = (int(edge + 0.5) for edge in box)
        window = bitmaps[None, instance : instance + 1, y1:y2, x1:x2].float()
        result.append(F.interpolate(window, (size, size), mode="bilinear")[0, 0] >= 0.5)
    return result


def _measure(rows: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each row."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, row in rows.items():
            start = time.process_time()
            row()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Compares and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--rois", type=int, default=128)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=31)
    args = parser.parse_args()
    masks, boxes = _load(args.annotations, args.rois)
    own = torch.arange(args.rois)
    flat, size = masks.flat_polygons(), args.size
    polygons = [[p.numpy().reshape(-1, 2) for p in i.polygons] for i in masks.instances.polygons]
    windows = boxes.double().numpy()
    bitmaps, shared = masks[:BITMAPS].get_mask_tensor(), own % BITMAPS

    rows = {
        "polygons: pycocotools": lambda: _coco_targets(polygons, windows, size),
        "polygons: maskrcnn_lib": lambda: polygon_mask_targets(*flat, boxes, own, size),
        "bitmaps: torch": lambda: _torch_targets(bitmaps, boxes, shared, size),
        "bitmaps: maskrcnn_lib": lambda: bitmap_mask_targets(bitmaps, boxes, shared, size),
    }
    names = list(rows)
    for peer, ours in zip(names[::2], names[1::2], strict=True):
        expected = np.stack([np.asarray(target) for target in rows[peer]()]) > 0
        share = (rows[ours]().numpy() != expected).mean()
        print(f"{ours}: {share:.4%} of the cells differ from {peer}")
    points = len(flat.points) / args.rois
    print(f"{args.rois} RoIs of {size} x {size} cells, {points:.0f} points per object")
    medians = _measure(rows, args.rounds)
    for peer, ours in zip(names[::2], names[1::2], strict=True):
        for name in (peer, ours):
            times_faster = medians[peer] / medians[name]
            print(f"{name:24} {medians[name] / args.rois * 1e6:8.2f} us {times_faster:7.1f} x")


if __name__ == "__main__":
    main()
