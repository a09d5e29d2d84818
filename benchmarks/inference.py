"""A whole Mask R-CNN R-50-FPN against torchvision's, alternating in one run; photos; imports.

    python benchmarks/inference.py [--rounds 5] [--threads 2] [--cpu-time]
    python benchmarks/inference.py --only model | memory | import
    python benchmarks/inference.py --only photos --photos DIRECTORY [--model NAME]

The large model gets random weights that behave like trained ones: norms are calibrated on the
image, and the classifier is scaled so that some thousands of (proposal, class) pairs pass the score
threshold and 100 detections remain. Both libraries have the same weights and image of 800 x 1088
and end with 100 masks pasted into it. Times are medians over rounds in which the candidates
alternate; on a machine that does other work as well, look at --cpu-time --threads 1. Memory is the
highest resident memory of a process of its own above that after the model was built.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from timing import Clock, alternate
from torch import Tensor, nn
from torch.nn import functional as F
from training_step import peak_memory

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.data.image_io import find_images, read_image
from maskrcnn_lib.engine.inference import Detector, build_detector, choose_model
from maskrcnn_lib.layers import paste_masks

SIZE = (800, 1088)
LOGIT_SPREAD = 2.0  # of each class over the proposals: about 4 in 100 pairs score above 0.05
CANDIDATES = ("torchvision float32", "maskrcnn_lib float32", "maskrcnn_lib bfloat16")
IMPORTS = (
    "import torch",
    "import torch, maskrcnn_lib",  # which does not import torch by itself
    "from maskrcnn_lib import COCODemo",
    "from maskrcnn_lib import build_detection_model",
)


def random_image() -> np.ndarray:
    """(H, W, 3) uint8 with structure at many scales."""
    sides = (2**exponent for exponent in range(2, 9))
    layers = [F.interpolate(torch.rand(1, 3, s, s), SIZE, mode="bilinear") for s in sides]
    mean = torch.stack(layers).mean(dim=0)[0]
    stretched = (mean - mean.amin()) / (mean.amax() - mean.amin())
    return (stretched * 255).byte().permute(1, 2, 0).contiguous().numpy()


def calibrated_peer(image: np.ndarray) -> nn.Module:
    """torchvision's model; norms and classifier fit to what they get from the image."""
    from torchvision.models.detection import maskrcnn_resnet50_fpn
    from torchvision.ops import FrozenBatchNorm2d

    def fit_norm(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        norm.running_mean.copy_(inputs[0].mean(dim=(0, 2, 3)))
        norm.running_var.copy_(inputs[0].var(dim=(0, 2, 3)))

    def fit_classifier(layer: nn.Linear, inputs: tuple[Tensor]) -> None:
        logits = inputs[0] @ layer.weight.T
        scale = LOGIT_SPREAD / logits.std(dim=0)
        layer.weight.mul_(scale[:, None])
        layer.bias.copy_(-logits.mean(dim=0) * scale)

    peer = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=SIZE[0]).eval()
    hooks = [peer.roi_heads.box_predictor.cls_score.register_forward_pre_hook(fit_classifier)]
    for module in peer.modules():
        if isinstance(module, FrozenBatchNorm2d):
            hooks.append(module.register_forward_pre_hook(fit_norm))
    peer_call(peer, image)()
    for hook in hooks:
        hook.remove()
    return peer


def peer_call(peer: nn.Module, image: np.ndarray) -> Callable[[], Tensor]:
    """A function that gives torchvision's pasted masks."""

    @torch.inference_mode()
    def call() -> Tensor:
        pixels = torch.from_numpy(image).permute(2, 0, 1).contiguous() / 255.0
        return peer([pixels])[0]["masks"] > 0.5

    return call


def our_call(detector: Detector, image: np.ndarray) -> Callable[[], Tensor]:
    """A function that gives our pasted masks."""

    def call() -> Tensor:
        found = detector([image])[0]
        masks, rule = found.get_field("mask"), detector.paste_rule
        return paste_masks(masks, rule.boxes(found.bbox), SIZE, aligned=rule.aligned)

    return call


def candidate(name: str, peer: nn.Module, image: np.ndarray) -> Callable[[], Tensor]:
    """The function behind a name of CANDIDATES."""
    if name == CANDIDATES[0]:
        return peer_call(peer, image)
    overrides = ["MODEL.DEVICE", "cpu", "DTYPE", name.split()[1]]
    cfg = get_cfg("torchvision/maskrcnn_resnet50_fpn", overrides)
    return our_call(build_detector(cfg, peer.state_dict()), image)


def compare_models(rounds: int, clock: Clock) -> None:
    """Prints the large model's times."""
    image = random_image()
    peer = calibrated_peer(image)
    calls = [candidate(name, peer, image) for name in CANDIDATES]
    counts = [len(call()) for call in calls]
    seconds = alternate(calls, rounds, clock)
    print(f"\nMask R-CNN R-50-FPN, {SIZE[0]} x {SIZE[1]}")
    for name, count, taken in zip(CANDIDATES, counts, seconds, strict=True):
        print(f"{name:46}{taken * 1e3:>9.0f} ms{seconds[0] / taken:>7.2f}x{count:>6} masks")


def measure_memory(name: str) -> None:
    """Prints the memory that one candidate needs, in bytes."""
    image = random_image()
    call = candidate(name, calibrated_peer(image), image)
    print(peak_memory(call))


def compare_memory(threads: int) -> None:
    """Prints the candidates' memory, each measured in a process of its own."""
    print(f"\nMemory of a call, Mask R-CNN R-50-FPN, {SIZE[0]} x {SIZE[1]}")
    first = None
    for name in CANDIDATES:
        arguments = [sys.executable, __file__, "--threads", str(threads), "--memory-of", name]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        needed = int(done.stdout.split()[-1])
        first = first or needed
        print(f"{name:46}{needed / 1e6:>9.0f} MB{needed / first:>7.2f}x")


def time_imports(rounds: int) -> None:
    """Prints how long a new interpreter takes over each import."""

    def start(statement: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", statement], check=True)

    seconds = alternate([start(s) for s in IMPORTS], rounds, time.perf_counter)
    print("\nImports in a new interpreter")
    for statement, taken in zip(IMPORTS, seconds, strict=True):
        print(f"{statement:46}{taken * 1e3:>9.0f} ms  {(taken - seconds[0]) * 1e3:>+8.0f} ms")


def time_photos(directory: Path, model: str, rounds: int, clock: Clock) -> None:
    """Prints the milliseconds from a photo's file to COCO results, by part."""
    cfg, weights = choose_model(model=model, overrides=["MODEL.DEVICE", "cpu"])
    detector = build_detector(cfg, weights)
    categories = range(len(detector.class_names))
    paths = list(find_images([directory]))
    parts: dict[str, list[float]] = {"reading": [], "model": [], "results": [], "together": []}
    for path in paths[:10]:
        detector([read_image(path)])
    for _ in range(rounds):
        taken = dict.fromkeys(parts, 0.0)
        for number, path in enumerate(paths):
            times = [clock()]
            image = read_image(path)
            times.append(clock())
            found = detector([image])[0]
            times.append(clock())
            found.to_coco(image_id=number, category_ids=categories, paste=detector.paste_rule)
            times.append(clock())
            for part, begin, end in zip(parts, times, times[1:], strict=False):
                taken[part] += end - begin
            taken["together"] += times[-1] - times[0]
        for part, total in taken.items():
            parts[part].append(total / len(paths))
    print(f"\n{model}, {len(paths)} photos, one at a time")
    for part, values in parts.items():
        print(f"{part:46}{statistics.median(values) * 1e3:>9.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("model", "memory", "import", "photos"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="processor instead of elapsed time")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="images for the small model")
    parser.add_argument("--model", default="d2go/mask_rcnn_fbnetv3a_C4")
    parser.add_argument("--memory-of", choices=CANDIDATES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.memory_of:
        return measure_memory(options.memory_of)
    clock = time.process_time if options.cpu_time else time.perf_counter
    wanted = options.only
    print(f"{options.threads} threads, {'CPU' if options.cpu_time else 'elapsed'} time, medians")
    if wanted in (None, "model"):
        compare_models(options.rounds, clock)
    if wanted in (None, "memory"):
        compare_memory(options.threads)
    if wanted in (None, "import"):
        time_imports(options.rounds)
    if options.photos is not None and wanted in (None, "photos"):
        time_photos(options.photos, options.model, options.rounds, clock)
    return None


if __name__ == "__main__":
    main()
