"""The main ratios of this library to its peers in one run.

    python benchmarks --quick [--output FILE.json]       under three minutes on two cores
    python benchmarks [--output FILE.json]               the same rows, more rounds, larger inputs

Prints a table in Markdown and writes it as JSON. Times are CPU time of the process, which other
programs on the machine disturb little; of imports, elapsed time. The
scripts beside this one measure each part in detail.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import evaluation
import inference
import loader
import numpy as np
import ops
import torch
import training_step
from detectors import make_peer
from timing import alternate

from maskrcnn_lib.data.image_io import find_images

PHOTOS = Path(__file__).parents[1] / "demo" / "images"
OPERATORS = (
    (ops.nms_rows, "nms, 4819 boxes, few overlaps"),
    (ops.paste_rows, "masks_to_rle, 100 masks, 800 x 1088"),
    (ops.mask_target_rows, "polygon_mask_targets, 128 RoIs, 26 points"),
    (ops.roi_align_rows, "roi_align, 1000 RoIs 7 x 7, sampling 2, channels last"),
    (ops.roi_align_rows, "roi_align backward, 1000 RoIs 7 x 7, sampling 2, last"),
)


@dataclass(frozen=True)
class Ratio:
    """One row: the same work by this library and by a peer.

    Attributes:
        ours, peer: milliseconds.
        ratio: how many times as fast ours is.
    """

    what: str
    peer_name: str
    ours: float
    peer: float
    ratio: float


def make_ratio(what: str, peer_name: str, ours: float, peer: float) -> Ratio:
    return Ratio(what, peer_name, round(ours, 3), round(peer, 3), round(peer / ours, 2))


def operator_ratios(quick: bool) -> Iterator[Ratio]:
    for rows, name in OPERATORS:
        row = next(row for row in rows() if row.name == name)
        times = ops.compare(row, 3 if quick else 15, time.process_time)
        yield make_ratio(name, "torchvision, pycocotools", *times)


def training_ratios(quick: bool) -> Iterator[Ratio]:
    """Two images; the quick run's are smaller."""
    size, images = ((320, 448) if quick else (480, 640)), 2
    arguments = argparse.Namespace(size=size, images=images, objects=8)
    torch.manual_seed(0)
    weights = make_peer(size).state_dict()
    names = (training_step.PEER, "maskrcnn_lib float32", "maskrcnn_lib bfloat16")
    steps = {name: training_step.make_step(name, weights, arguments) for name in names}
    seconds = alternate(list(steps.values()), 2 if quick else 5, time.process_time)
    for name, taken in zip(names[1:], seconds[1:], strict=True):
        what = f"training step, {images} of {size[0]} x {size[1]}, {name.split()[1]}"
        yield make_ratio(what, training_step.PEER, taken * 1e3, seconds[0] * 1e3)


def inference_ratios(quick: bool) -> Iterator[Ratio]:
    """Photo to 100 pasted masks."""
    image = inference.random_image()
    peer = inference.calibrated_peer(image)
    names = inference.CANDIDATES
    calls = [inference.candidate(name, peer, image) for name in names]
    seconds = alternate(calls, 2 if quick else 5, time.process_time)
    height, width = inference.SIZE
    for name, taken in zip(names[1:], seconds[1:], strict=True):
        what = f"inference, {height} x {width}, {name.split()[1]}"
        yield make_ratio(what, names[0], taken * 1e3, seconds[0] * 1e3)


def evaluation_ratios(quick: bool) -> Iterator[Ratio]:
    random = np.random.default_rng(0)
    images = 300 if quick else 5000
    dataset = evaluation.make_dataset(images, random)
    results = evaluation.make_results(dataset, 100, random)
    for kind, found in results.items():
        seconds = evaluation.compare(dataset, found, kind, ["auto"], 1, time.process_time)
        times = (seconds["auto"] * 1e3, seconds[evaluation.PEER] * 1e3)
        yield make_ratio(f"COCO evaluation, {images} images, {kind}", "pycocotools", *times)


def loader_ratios(quick: bool) -> Iterator[Ratio]:
    paths = list(find_images([PHOTOS]))
    times = loader.measure(paths, 800, 5 if quick else 15)
    prefix = "decode + resize + normalise: "
    ours, peer = (times[prefix + name] for name in ("maskrcnn_lib", "torchvision"))
    yield make_ratio("image from file to input, short side 800", "torchvision", ours, peer)


def import_ratios(quick: bool) -> Iterator[Ratio]:
    """Elapsed time of a new interpreter; the peer is what ours imports, too."""
    statements = ("from maskrcnn_lib import build_detection_model", "import torch")
    commands = [[sys.executable, "-c", statement] for statement in statements]
    calls = [partial(subprocess.run, command, check=True) for command in commands]
    ours, peer = alternate(calls, 2 if quick else 7)
    yield make_ratio("import of all that builds a model", "import torch", ours * 1e3, peer * 1e3)


PARTS: tuple[Callable[[bool], Iterator[Ratio]], ...] = (
    operator_ratios,
    inference_ratios,
    training_ratios,
    evaluation_ratios,
    loader_ratios,
    import_ratios,
)


def machine() -> dict[str, str]:
    """What the numbers depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def main() -> None:
    """Reads the arguments, measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small inputs and few rounds")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write the table there")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    started = time.perf_counter()
    print(", ".join(f"{name}: {value}" for name, value in machine().items()))
    print("\n| what | ours ms | peer ms | ratio | peer |\n|---|---|---|---|---|")
    ratios = []
    for part in PARTS:
        for row in part(options.quick):
            times = f"{row.ours:.4g} | {row.peer:.4g} | {row.ratio:.4g}x"
            print(f"| {row.what} | {times} | {row.peer_name} |", flush=True)
            ratios.append(row)
    print(f"\nmeasured in {time.perf_counter() - started:.0f} s")
    if options.output is not None:
        content = {"machine": machine(), "rows": [asdict(row) for row in ratios]}
        options.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
