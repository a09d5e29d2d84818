"""One training step of Mask R-CNN R-50-FPN against torchvision's, alternating in one run.

    python benchmarks/training_step.py [--rounds 5] [--images 2] [--size 480 640] [--objects 8]
        [--threads 2] [--profile]

All have the same weights, images and ground truth, frozen norms, a frozen stem and first stage, and
update by SGD with momentum. Times are elapsed time and CPU time of the process; other programs on
the machine disturb the latter less. Peak memory is the highest resident memory of a process of its
own that trains three steps, in all (Python, libraries, weights) and above that before training.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from detectors import make_batch, make_ours, make_peer, our_training, peer_training
from torch import Tensor

PEER = "torchvision float32"
SUBJECTS = {
    PEER: torch.float32,
    "torchvision bfloat16": torch.bfloat16,
    "maskrcnn_lib float32": torch.float32,
    "maskrcnn_lib bfloat16": torch.bfloat16,
}
CPU = torch.device("cpu")


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


def make_step(
    name: str, weights: dict[str, Tensor], arguments: argparse.Namespace
) -> Callable[[], None]:
    """A function that trains the named model once."""
    torch.manual_seed(0)
    size = tuple(arguments.size)
    batch = make_batch(arguments.images, size, arguments.objects)
    if name.startswith("torchvision"):
        peer = make_peer(size)
        peer.load_state_dict(weights)
        return peer_training(peer, batch, CPU, SUBJECTS[name])
    return our_training(make_ours(weights), batch, CPU, SUBJECTS[name])


def measure_times(
    steps: dict[str, Callable[[], None]], rounds: int
) -> dict[str, tuple[float, float]]:
    """Median elapsed and CPU seconds of each."""
    for step in steps.values():
        step()
    times = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            step()
            times[name].append((time.perf_counter() - start, time.process_time() - cpu_start))
    return {
        name: tuple(map(statistics.median, zip(*rows, strict=True))) for name, rows in times.items()
    }


def measure_memory(name: str, weights: Path) -> tuple[float, float]:
    """Peak megabytes, in all and above those before training, of the named model alone."""
    command = [sys.executable, *sys.argv, "--only", name, "--weights", str(weights)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    total, growth = output.split()[-2:]
    return float(total), float(growth)


def report_memory(arguments: argparse.Namespace) -> None:
    """Trains three steps and prints what ``measure_memory`` reads."""
    step = make_step(arguments.only, torch.load(arguments.weights, mmap=True), arguments)
    growth = peak_memory(lambda: [step() for _ in range(3)])
    print(_status("VmHWM") / 1e6, growth / 1e6)


def compare(arguments: argparse.Namespace) -> None:
    """Prints times and memory of all, and how often faster and smaller than the peer they are."""
    torch.manual_seed(0)
    weights = make_peer(tuple(arguments.size)).state_dict()
    steps = {name: make_step(name, weights, arguments) for name in SUBJECTS}
    times = measure_times(steps, arguments.rounds)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "weights.pth"
        torch.save(weights, path)
        memory = {name: measure_memory(name, path) for name in SUBJECTS}
    print(f"{'':22} elapsed s  ratio    CPU s  ratio  peak MB  ratio  above MB  ratio")
    for name in SUBJECTS:
        values = [
            (value, peer / value) for value, peer in zip(times[name], times[PEER], strict=True)
        ]
        values += [
            (value, value / peer) for value, peer in zip(memory[name], memory[PEER], strict=True)
        ]
        print(f"{name:22}" + "".join(f"{value:9.2f} {ratio:6.2f}" for value, ratio in values))
    if arguments.profile:
        for name in ("maskrcnn_lib float32", "maskrcnn_lib bfloat16"):
            with torch.profiler.profile() as profile:
                steps[name]()
            print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))


def main() -> None:
    """Reads the arguments and compares, or measures the memory of one model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640))
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="also list our operators by time")
    parser.add_argument("--only", choices=SUBJECTS, help=argparse.SUPPRESS)
    parser.add_argument("--weights", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.only:
        report_memory(arguments)
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
