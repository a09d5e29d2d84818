"""Expected efficiency of data-parallel training on many GPUs, computed from measured figures.

    python benchmarks/scaling.py [--step 0.0743] [--images 16] [--backward 0.65] [--gradients 176e6]
        [--link 45e9] [--network 45e9] [--latency 15e-6] [--image-bytes 160e3] [--core-rate 500]

Nothing here is measured: give the seconds of a step on one GPU and the speed of the links. The
model: gradients go around in a ring, inside a machine of eight over its links, between machines
over the network, and overlap with the backward pass but for the last bucket (25 MB) and for what
does not fit under it.
"""

import argparse

BUCKET = 25e6  # bytes; DistributedDataParallel's default
GPUS_PER_MACHINE = 8


def exchange_seconds(size: float, gpus: int, options: argparse.Namespace) -> float:
    """Seconds of a ring all-reduce of ``size`` bytes: 2 (n - 1) / n passes, 2 (n - 1) messages."""
    if gpus == 1:
        return 0.0
    speed = options.link if gpus <= GPUS_PER_MACHINE else min(options.link, options.network)
    return 2 * (gpus - 1) / gpus * size / speed + 2 * (gpus - 1) * options.latency


def efficiency(gpus: int, options: argparse.Namespace) -> float:
    """Share of the single GPU's rate that each of ``gpus`` keeps."""
    whole = exchange_seconds(options.gradients, gpus, options)
    last = exchange_seconds(min(BUCKET, options.gradients), gpus, options)
    exposed = max(last, whole - options.backward * options.step)
    return options.step / (options.step + exposed)


def main() -> None:
    """Prints one line per number of GPUs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", type=float, default=0.0743, help="seconds on one GPU")
    parser.add_argument("--images", type=int, default=16, help="per GPU and step")
    parser.add_argument("--backward", type=float, default=0.65, help="its share of a step")
    parser.add_argument("--gradients", type=float, default=176e6, help="bytes")
    parser.add_argument("--link", type=float, default=45e9, help="bytes per second in a machine")
    parser.add_argument("--network", type=float, default=45e9, help="between machines, per GPU")
    parser.add_argument("--latency", type=float, default=15e-6, help="seconds per message")
    parser.add_argument("--image-bytes", type=float, default=160e3, help="of a file")
    parser.add_argument("--core-rate", type=float, default=500, help="images/s that a core reads")
    options = parser.parse_args()
    print("GPUs  efficiency  images/s  cores per GPU  file system MB/s")
    for gpus in (1, 8, 64, 256):
        share = efficiency(gpus, options)
        per_gpu = options.images / options.step * share
        print(
            f"{gpus:4} {share:10.1%} {per_gpu * gpus:10.0f} {per_gpu / options.core_rate:10.2f} "
            f"{per_gpu * gpus * options.image_bytes / 1e6:15.0f}"
        )


if __name__ == "__main__":
    main()
