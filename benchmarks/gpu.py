"""All figures of one GPU: training, inference, operators, waits, launches, memory; and the peer's.

    python benchmarks/gpu.py [--rounds 5] [--batches 2 16] [--size 800 1344] [--trunk graph]

Mask R-CNN R-50-FPN of this library and of torchvision with the same weights and images, both in
bfloat16, alternately in one process. Ours trains its backbone through CUDA graphs (``graph``, which
is ``MODEL.CUDA_GRAPHS``), through torch's compiler (``compile``), or neither (``eager``), and
predicts as ``Detector`` does. Takes a few minutes. ``--device cpu`` runs the same rows, with
small ``--size`` and ``--batches``, where there is no GPU: to see that they run, not for figures.
"""

import argparse
import gc
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from detectors import make_batch, make_ours, make_peer, our_training, peer_training
from timing import alternate
from torch import Tensor, nn

from maskrcnn_lib.engine.fast_model import make_fast
from maskrcnn_lib.engine.training_graphs import graph_backbone
from maskrcnn_lib.layers import batched_nms, multilevel_roi_align, polygon_mask_targets
from maskrcnn_lib.structures.image_list import ImageList

OBJECTS = 8  # per image
DTYPE = torch.bfloat16
SCALES = (1 / 4, 1 / 8, 1 / 16, 1 / 32)
TRUNKS: dict[str, Callable[[nn.Module], object]] = {
    "graph": graph_backbone,
    "compile": lambda backbone: backbone.compile(mode="reduce-overhead"),
    "eager": lambda backbone: None,
}


class Row(NamedTuple):
    """A measured line: what it is, ours, the peer's, and which way is better."""

    name: str
    ours: float
    peer: float
    unit: str
    more_is_better: bool = False


class Bench(NamedTuple):
    """Where and how large.

    Attributes:
        device: that is measured.
        size: height and width of the images.
        rounds: in which the candidates alternate.
        trunk: how our backbone trains, see ``TRUNKS``.
    """

    device: torch.device
    size: tuple[int, int]
    rounds: int
    trunk: str = "graph"

    def clock(self) -> float:
        """Seconds, after the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def times(self, *calls: Callable[[], object], shortest: float = 0.0) -> list[float]:
        """Median seconds of each call; the first four calls of each do not count."""
        for call in calls:
            call(), call(), call()  # ours records its graph in the third
        return alternate(calls, self.rounds, self.clock, shortest=shortest)


def trainings(
    bench: Bench, weights: dict[str, Tensor], images: int
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Our training step and the peer's, on the same batch."""
    batch = make_batch(images, bench.size, OBJECTS)
    batch = batch._replace(images=batch.images.to(bench.device))  # where the prefetcher brings them
    ours, peer = make_ours(weights), make_peer(bench.size)
    peer.load_state_dict(weights)
    ours.roi_heads.mask.target = "raster"  # drawn by the GPU, as for maskrcnn-benchmark's models
    TRUNKS[bench.trunk](ours.backbone)
    return (
        our_training(ours, batch, bench.device, DTYPE),
        peer_training(peer, batch, bench.device, DTYPE),
    )


def training_rows(bench: Bench, weights: dict[str, Tensor], images: int) -> Iterator[Row]:
    """Images per second, waits of the host, launches and memory of training steps."""
    steps = trainings(bench, weights, images)
    rates = [images / seconds for seconds in bench.times(*steps)]
    yield Row(f"training, {images} images", *rates, "images/s", more_is_better=True)
    if bench.device.type != "cuda":
        return
    yield Row(f"host waits per step, {images} images", *map(count_waits, steps), "")
    yield Row(f"launches per step, {images} images", *map(count_launches, steps), "")
    yield Row(f"memory of a step, {images} images", *map(peak_gigabytes, steps), "GB")


def count_waits(step: Callable[[], object]) -> int:
    """How often the host waits for the GPU, as far as torch notices."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def count_launches(step: Callable[[], object]) -> int:
    """Kernels, copies and graphs that the host gives to the GPU."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        step()
        torch.cuda.synchronize()
    starts = ("cudaLaunch", "cuLaunch", "cudaMemcpy", "cudaMemset", "cudaGraphLaunch")
    return sum(event.count for event in profile.key_averages() if event.key.startswith(starts))


def peak_gigabytes(step: Callable[[], object]) -> float:
    """Most memory that tensors have during a step, the weights of both models included."""
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 1e9


def inference_row(bench: Bench, weights: dict[str, Tensor], images: int) -> Row:
    """Milliseconds from images on the device to detections with masks of 28 x 28."""
    size = [bench.size] * images
    pixels = torch.rand(images, 3, *bench.size, device=bench.device)
    ours = make_fast(make_ours(weights), bench.device, DTYPE)
    peer = make_peer(bench.size)
    peer.load_state_dict(weights)
    peer.to(bench.device).eval()
    peer.transform.postprocess = lambda result, *sizes: result  # no pasting, as ours has none
    batch = ImageList(pixels.to(memory_format=torch.channels_last), size)

    @torch.inference_mode()
    def run(model: Callable[..., object], inputs: object) -> object:
        with torch.autocast(bench.device.type, DTYPE):
            return model(inputs)

    seconds = bench.times(lambda: run(ours, batch), lambda: run(peer, list(pixels)))
    return Row(f"inference, {images} images", *(1000 * value for value in seconds), "ms")


def random_rois(count: int, images: int, bench: Bench) -> Tensor:
    """(count, 5): boxes of all sizes in all images."""
    height, width = bench.size
    start = torch.rand(count, 2) * torch.tensor([width, height]) * 0.7
    extent = 8 + torch.rand(count, 2) ** 2 * torch.tensor([width, height]) * 0.3
    index = torch.arange(count)[:, None] % images
    return torch.cat((index, start, start + extent), dim=1).to(bench.device)


def roi_align_row(bench: Bench, images: int = 2) -> Row:
    """RoIAlign over a pyramid, forward and backward, of 512 RoIs per image."""
    from torchvision.ops import MultiScaleRoIAlign

    rois = random_rois(512 * images, images, bench)
    shapes = [tuple(int(side * scale) for side in bench.size) for scale in SCALES]
    maps = [
        torch.rand(images, 256, *shape, device=bench.device).requires_grad_() for shape in shapes
    ]
    half = [
        level.detach().to(DTYPE, memory_format=torch.channels_last).requires_grad_()
        for level in maps
    ]
    pooler = MultiScaleRoIAlign([str(level) for level in range(len(SCALES))], 7, 2)
    per_image = [rois[rois[:, 0] == image, 1:] for image in range(images)]
    named = {str(level): features for level, features in enumerate(maps)}

    def back(pooled: Tensor) -> None:
        torch.autograd.backward(pooled, torch.ones_like(pooled))

    seconds = bench.times(
        lambda: back(multilevel_roi_align(half, rois, SCALES, 7, 2)),
        lambda: back(pooler(named, per_image, [bench.size] * images)),
        shortest=0.05,
    )
    name = f"RoIAlign and back, {len(rois)} RoIs (peer: float32)"
    return Row(name, *(1000 * value for value in seconds), "ms")


def nms_row(bench: Bench, count: int = 4819) -> Row:
    """The boxes that the RPN gives to NMS for one image, by level."""
    from torchvision.ops import batched_nms as peer_nms

    boxes = random_rois(count, 5, bench)
    groups, boxes = boxes[:, 0].long(), boxes[:, 1:].contiguous()
    scores = torch.rand(count, device=bench.device)
    seconds = bench.times(
        lambda: batched_nms(boxes, scores, groups, 0.7),
        lambda: peer_nms(boxes, scores, groups, 0.7),
        shortest=0.05,
    )
    return Row(f"NMS, {count} boxes", *(1000 * value for value in seconds), "ms")


def mask_target_row(bench: Bench, rois: int = 128) -> Row:
    """Mask targets of an image's positive RoIs: ours from polygons, the peer's from bitmaps."""
    from torchvision.models.detection.roi_heads import project_masks_on_boxes

    target = make_batch(1, bench.size, OBJECTS).targets[0]
    masks = target.get_field("masks")
    flat = masks.flat_polygons().to(bench.device)
    bitmaps = masks.get_mask_tensor().to(bench.device, torch.uint8)
    matched = torch.arange(rois, device=bench.device) % OBJECTS
    boxes = target.bbox.to(bench.device)[matched]
    seconds = bench.times(
        lambda: polygon_mask_targets(*flat, boxes, matched, 28),
        lambda: project_masks_on_boxes(bitmaps, boxes, matched, 28),
        shortest=0.05,
    )
    return Row(f"mask targets, {rois} RoIs", *(1000 * value for value in seconds), "ms")


def all_rows(bench: Bench, batches: Sequence[int], predicted: Sequence[int]) -> Iterator[Row]:
    """Every row, one after the other; the models of one are gone before the next."""
    yield roi_align_row(bench)
    yield nms_row(bench)
    yield mask_target_row(bench)
    weights = make_peer(bench.size).state_dict()
    for images in batches:
        yield from training_rows(bench, weights, images)
        gc.collect()
    for images in predicted:
        yield inference_row(bench, weights, images)
        gc.collect()


def format_row(row: Row) -> str:
    """One line of the table; the ratio says how many times better ours is."""
    above, below = (row.ours, row.peer) if row.more_is_better else (row.peer, row.ours)
    better = f"{above / below:7.2f}" if below else f"{'-':>7}"
    return f"{row.name:52} {row.ours:10.2f} {row.peer:10.2f} {row.unit:9} {better}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1344))
    parser.add_argument("--batches", type=int, nargs="*", default=(2, 16), help="for training")
    parser.add_argument("--predicted", type=int, nargs="*", default=(1, 8), help="for inference")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--trunk", choices=sorted(TRUNKS), default="graph")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit(
            "benchmarks/gpu.py: torch sees no CUDA device here. To see that its rows run, without "
            "figures that mean anything: --device cpu --size 128 160 --batches 2 --predicted 1"
        )
    torch.manual_seed(0)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{where}, torch {torch.__version__}, images of {options.size[0]} x {options.size[1]}")
    print(f"{'':52} {'ours':>10} {'torchvision':>11} {'':8} {'ratio':>7}")
    bench = Bench(device, tuple(options.size), options.rounds, options.trunk)
    for row in all_rows(bench, options.batches, options.predicted):
        print(format_row(row), flush=True)


if __name__ == "__main__":
    main()
