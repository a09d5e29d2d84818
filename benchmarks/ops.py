"""Operators against torchvision's and pycocotools', alternating in one run.

    OMP_NUM_THREADS=1 python benchmarks/ops.py [FILTER] [--quick] [--threads 1] [--wall]
    python benchmarks/ops.py [FILTER] --scaling 2

In each round a row's two candidates run one after the other, each for a while. Times are CPU time
of the process, which other programs on the machine disturb little; with more than one thread use
--wall. The table shows medians over the rounds, and their ratio. --scaling compares ours on that
many threads with ours on one, by elapsed time.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from timing import Clock, alternate
from torch.nn import functional as F

from maskrcnn_lib import layers
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

SHORTEST = 0.02  # seconds; quicker candidates are called several times in a row
IMAGE_SIZE = (800, 1088)
PHOTO_SIZE = (3000, 4000)  # 12 megapixels


class Row(NamedTuple):
    """What is compared: two functions that do the same work."""

    name: str
    ours: Callable[[], object]
    peer: Callable[[], object]


def random_boxes(
    count: int, size: tuple[int, int], smallest: float, largest: float
) -> torch.Tensor:
    """Boxes within the image, (count, 4) xyxy."""
    height, width = size
    centre = torch.rand(count, 2) * torch.tensor([width, height])
    extent = smallest + torch.rand(count, 2) * (largest - smallest)
    boxes = torch.cat([centre - extent / 2, centre + extent / 2], dim=1)
    return torch.minimum(boxes.clamp(min=0), torch.tensor([width, height, width, height]))


def object_masks(count: int, size: int) -> torch.Tensor:
    """Round objects with uneven borders, (count, size, size) probabilities."""
    axis = torch.linspace(-1, 1, size)
    distance = (axis[:, None] ** 2 + axis**2).sqrt()
    border = F.interpolate(torch.rand(count, 1, 5, 5), size=(size, size), mode="bicubic")[:, 0]
    return torch.sigmoid(12 * (0.4 + 0.6 * border - distance))


def random_rois(count: int, smallest: float, largest: float) -> torch.Tensor:
    """Boxes of one image, (count, 5), with sizes spread evenly in logarithm."""
    height, width = IMAGE_SIZE
    centre = torch.rand(count, 2) * torch.tensor([width, height])
    extent = smallest * (largest / smallest) ** torch.rand(count, 2)
    boxes = torch.cat([centre - extent / 2, centre + extent / 2], dim=1)
    boxes = torch.minimum(boxes.clamp(min=0), torch.tensor([width, height, width, height]))
    return torch.cat([torch.zeros(count, 1), boxes], dim=1)


def nms_rows() -> Iterator[Row]:
    from torchvision import ops as peer

    for count in (1000, 4819, 20_000):
        for name, largest in (("few overlaps", 100.0), ("many overlaps", 400.0)):
            boxes = random_boxes(count, (1000, 1000), largest / 20, largest)
            scores = torch.rand(count)
            yield Row(
                f"nms, {count} boxes, {name}",
                lambda boxes=boxes, scores=scores: layers.nms(boxes, scores, 0.5),
                lambda boxes=boxes, scores=scores: peer.nms(boxes, scores, 0.5),
            )
    for count, groups in ((4819, 5), (8000, 80), (80_000, 80)):
        boxes = random_boxes(count, (1000, 1000), 5, 100)
        arguments = (boxes, torch.rand(count), torch.randint(0, groups, (count,)), 0.5)
        yield Row(
            f"batched_nms, {count} boxes, {groups} groups",
            lambda arguments=arguments: layers.batched_nms(*arguments),
            lambda arguments=arguments: peer.batched_nms(*arguments),
        )


def paste_rows() -> Iterator[Row]:
    from pycocotools import mask as coco_mask
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    masks = object_masks(100, 28)
    boxes = random_boxes(100, IMAGE_SIZE, 20, 400)

    def peer_paste(size: tuple[int, int], boxes: torch.Tensor) -> torch.Tensor:
        return paste_masks_in_image(masks[:, None], boxes, size)[:, 0] > 0.5

    def peer_encode(size: tuple[int, int], boxes: torch.Tensor) -> object:
        """One mask at a time: all floats of the large photo would take 5 GB."""
        parts = []
        for mask, box in zip(masks, boxes, strict=True):
            bitmap = paste_masks_in_image(mask[None, None], box[None], size)[0, 0] > 0.5
            parts.append(coco_mask.encode(np.asfortranarray(bitmap.numpy().astype(np.uint8))))
        return parts

    for aligned in (False, True):
        yield Row(
            f"paste_masks, 100 masks, 800 x 1088, aligned={aligned}",
            lambda aligned=aligned: layers.paste_masks(masks, boxes, IMAGE_SIZE, aligned=aligned),
            lambda: peer_paste(IMAGE_SIZE, boxes),
        )
    for size, largest in ((IMAGE_SIZE, 400), (PHOTO_SIZE, 1500)):
        boxes_here = random_boxes(100, size, largest / 20, largest)
        yield Row(
            f"masks_to_rle, 100 masks, {size[0]} x {size[1]}",
            lambda size=size, boxes=boxes_here: layers.masks_to_rle(masks, boxes, size),
            lambda size=size, boxes=boxes_here: peer_encode(size, boxes),
        )


def keypoint_rows() -> Iterator[Row]:
    from torchvision.models.detection.roi_heads import heatmaps_to_keypoints

    hills = torch.nn.functional.interpolate(
        4 * torch.randn(20 * 17, 1, 7, 7), size=(56, 56), mode="bicubic"
    ).view(20, 17, 56, 56)
    maps = hills + 0.3 * torch.randn(hills.shape)
    boxes = random_boxes(20, IMAGE_SIZE, 20, 400)
    yield Row(
        "heat_map_peaks, 20 persons, 17 maps of 56 x 56",
        lambda: layers.heat_map_peaks(maps, boxes),
        lambda: heatmaps_to_keypoints(maps, boxes),
    )


def outlines(count: int, points: int, size: tuple[int, int]) -> list[np.ndarray]:
    """Round objects with uneven borders: `count` polygons, (points, 2) float64."""
    boxes = random_boxes(count, size, 40, 300).double()
    centre, radius = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    angle = torch.linspace(0, 2 * np.pi, points + 1, dtype=torch.float64)[:-1]
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    uneven = 0.8 + 0.2 * torch.rand(count, points, 1, dtype=torch.float64)
    return list(centre[:, None] + radius[:, None] * circle * uneven)


def polygon_target_row(points: int) -> Row:
    """128 RoIs of 16 objects, jittered as proposals are; the peer goes RoI by RoI."""
    from pycocotools import mask as coco_mask

    instances = torch.arange(128) % 16
    polygons = outlines(16, points, IMAGE_SIZE)
    tight = torch.stack([torch.cat([p.amin(dim=0), p.amax(dim=0)]) for p in polygons])
    extent = (tight[:, 2:] - tight[:, :2]).repeat(1, 2)[instances]
    boxes = (tight[instances] + 0.1 * extent * torch.randn(128, 4)).float()
    arrays, windows = [polygon.numpy() for polygon in polygons], boxes.double().numpy()
    flat = SegmentationMask([[array] for array in arrays], IMAGE_SIZE[::-1]).flat_polygons()

    def peer() -> list[np.ndarray]:
        targets = []
        for instance, box in zip(instances.tolist(), windows, strict=True):
            moved = (arrays[instance] - box[:2]) * (28 / (box[2:] - box[:2]))
            runs = coco_mask.merge(coco_mask.frPyObjects([moved.reshape(-1)], 28, 28))
            targets.append(coco_mask.decode([runs])[:, :, 0])
        return targets

    return Row(
        f"polygon_mask_targets, 128 RoIs, {points} points",
        lambda: layers.polygon_mask_targets(*flat, boxes, instances, 28),
        peer,
    )


def bitmap_target_row() -> Row:
    """128 RoIs of 16 objects; the peer goes RoI by RoI."""
    instances = torch.arange(128) % 16
    shapes = [[polygon] for polygon in outlines(16, 26, IMAGE_SIZE)]
    bitmaps = SegmentationMask(shapes, IMAGE_SIZE[::-1]).get_mask_tensor()
    boxes = random_boxes(128, IMAGE_SIZE, 40, 300).round()

    def peer() -> list[torch.Tensor]:
        targets = []
        for instance, box in zip(instances.tolist(), boxes.long().tolist(), strict=True):
            x1, y1, x2, y2 = box
            window = bitmaps[None, instance : instance + 1, y1:y2, x1:x2].float()
            targets.append(F.interpolate(window, (28, 28), mode="bilinear")[0, 0] >= 0.5)
        return targets

    return Row(
        f"bitmap_mask_targets, 128 RoIs, {IMAGE_SIZE[0]} x {IMAGE_SIZE[1]}",
        lambda: layers.bitmap_mask_targets(bitmaps, boxes, instances, 28),
        peer,
    )


def mask_target_rows() -> Iterator[Row]:
    yield polygon_target_row(26)  # as many as an object of COCO has
    yield polygon_target_row(200)
    yield bitmap_target_row()


def roi_align_rows() -> Iterator[Row]:
    """Boxes as of proposals: sizes of 12 to 90 pixels on the finest level, evenly in logarithm."""
    from torchvision import ops as peer

    features = torch.randn(1, 256, 200, 272)
    last = features.contiguous(memory_format=torch.channels_last)
    for count, bins, sampling_ratio in ((1000, 7, 2), (1000, 7, 0), (100, 14, 2)):
        rois = random_rois(count, 12, 90)
        rule = (bins, 0.25, sampling_ratio)
        gradient = torch.randn(count, 256, bins, bins)
        gradient_last = gradient.contiguous(memory_format=torch.channels_last)
        what = f"{count} RoIs {bins} x {bins}, sampling {sampling_ratio}"

        def pool(x: torch.Tensor, rois=rois, rule=rule) -> object:
            return layers.roi_align(x, rois, *rule)

        def pool_peer(rois=rois, rule=rule) -> object:
            return peer.roi_align(features, rois, *rule)

        def spread(gradient: torch.Tensor, last: bool, rois=rois, sampling_ratio=sampling_ratio):
            return torch.ops.maskrcnn.roi_align_backward(
                gradient, rois, features.shape, 0.25, sampling_ratio, False, last, False
            )

        def spread_peer(gradient=gradient, rois=rois, bins=bins, sampling_ratio=sampling_ratio):
            return torch.ops.torchvision._roi_align_backward(
                gradient, rois, 0.25, bins, bins, *features.shape, sampling_ratio, False
            )

        yield Row(f"roi_align, {what}, channels last", partial(pool, last), pool_peer)
        yield Row(f"roi_align, {what}, channels first", partial(pool, features), pool_peer)
        yield Row(
            f"roi_align backward, {what}, last", partial(spread, gradient_last, True), spread_peer
        )
        yield Row(
            f"roi_align backward, {what}, first", partial(spread, gradient, False), spread_peer
        )


def ps_roi_rows() -> Iterator[Row]:
    """R-FCN's score maps of 20 classes and background, and 300 proposals."""
    from torchvision import ops as peer

    features = torch.randn(1, 21 * 49, 50, 68, requires_grad=True)
    rois = random_rois(300, 32, 500)
    for name, rule in (("ps_roi_pool", ()), ("ps_roi_align", (2,))):

        def forward(pool: Callable[..., torch.Tensor], rule=rule) -> torch.Tensor:
            return pool(features.detach(), rois, 7, 1 / 16, *rule)

        def both(pool: Callable[..., torch.Tensor], rule=rule) -> object:
            return torch.autograd.grad(pool(features, rois, 7, 1 / 16, *rule).sum(), features)

        pools = (getattr(layers, name), getattr(peer, name))
        what = f"{name}, 300 RoIs 7 x 7, 1029 channels"
        yield Row(what, *(partial(forward, pool) for pool in pools))
        yield Row(f"{what}, and backward", *(partial(both, pool) for pool in pools))


def pyramid_rows() -> Iterator[Row]:
    from torchvision.ops import MultiScaleRoIAlign

    scales = (1 / 4, 1 / 8, 1 / 16, 1 / 32)
    features = [torch.randn(1, 256, int(800 * s), int(1088 * s)) for s in scales]
    last = [level.contiguous(memory_format=torch.channels_last) for level in features]
    half = [level.bfloat16() for level in last]
    named = {str(index): level for index, level in enumerate(features)}
    for count, bins in ((1000, 7), (100, 14)):
        rois = random_rois(count, 12, 700)
        pooler = MultiScaleRoIAlign(list(named), bins, 2)

        def pool(levels: list[torch.Tensor], rois=rois, bins=bins) -> object:
            return layers.multilevel_roi_align(levels, rois, scales, bins, 2)

        def pool_peer(rois=rois, pooler=pooler) -> object:
            return pooler(named, [rois[:, 1:]], [IMAGE_SIZE])

        what = f"{count} RoIs {bins} x {bins}"
        yield Row(f"multilevel_roi_align, {what}, last", partial(pool, last), pool_peer)
        yield Row(f"multilevel_roi_align, {what}, first", partial(pool, features), pool_peer)
        yield Row(f"multilevel_roi_align, {what}, last, bfloat16", partial(pool, half), pool_peer)


def focal_loss_rows() -> Iterator[Row]:
    """Logits of all anchors of RetinaNet's finest level but one, forwards and backwards."""
    from torchvision.ops import sigmoid_focal_loss as peer_loss

    height, width, anchors = 50, 68, 9
    for classes, dtype in ((80, torch.float32), (80, torch.bfloat16), (1, torch.float32)):
        logits = torch.randn(height * width * anchors, classes, dtype=dtype) - 4
        logits.requires_grad_()
        labels = torch.randint(-1, classes + 1, (len(logits),))
        labels[torch.rand(len(labels)) < 0.99] = 0
        targets = (torch.arange(1, classes + 1) == labels[:, None]).to(dtype)

        def ours(logits=logits, labels=labels) -> object:
            loss = layers.sigmoid_focal_loss(logits, labels).sum()
            return torch.autograd.grad(loss, logits)

        def peer(logits=logits, targets=targets) -> object:
            return torch.autograd.grad(peer_loss(logits, targets, reduction="sum"), logits)

        what = f"{len(logits)} x {classes}, {str(dtype).removeprefix('torch.')}"
        yield Row(f"sigmoid_focal_loss and backward, {what}", ours, peer)


ROWS = (
    focal_loss_rows,
    nms_rows,
    paste_rows,
    keypoint_rows,
    mask_target_rows,
    roi_align_rows,
    ps_roi_rows,
    pyramid_rows,
)


def on_threads(row: Row, threads: int) -> Row:
    """Ours on some threads against ours on one."""

    def run(count: int) -> object:
        torch.set_num_threads(count)
        return row.ours()

    return Row(row.name, partial(run, threads), partial(run, 1))


def compare(row: Row, rounds: int, clock: Clock) -> tuple[float, float]:
    """Median milliseconds of ours and of the peer."""
    ours, peer = alternate((row.ours, row.peer), rounds, clock, shortest=SHORTEST)
    return ours * 1e3, peer * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("filter", nargs="?", default="", help="only rows with this in their name")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="three rounds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--wall", action="store_true", help="measure elapsed time")
    parser.add_argument("--scaling", type=int, metavar="N", help="ours on N threads against one")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    wall = options.wall or options.scaling is not None
    clock = time.perf_counter if wall else time.process_time
    threads = options.scaling or options.threads
    peer_name = "ours on 1" if options.scaling else "peer"
    print(f"{threads} threads, {'elapsed' if wall else 'CPU'} time, medians")
    print(f"{'':58}{'ours ms':>10}{peer_name + ' ms':>14}{'ratio':>8}")
    for rows in ROWS:
        for row in rows():
            if options.filter in row.name:
                row = on_threads(row, options.scaling) if options.scaling else row
                ours, peer = compare(row, 3 if options.quick else options.rounds, clock)
                print(f"{row.name:58}{ours:>10.3f}{peer:>14.2f}{peer / ours:>7.1f}x", flush=True)


if __name__ == "__main__":
    main()
