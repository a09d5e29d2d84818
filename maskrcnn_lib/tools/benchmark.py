"""``maskrcnn benchmark``: latency, throughput and memory of a model on this machine.

The time of a model depends on what it finds: give images of the kind that it will see. Without any
it looks at noise, in which a model finds little.
"""

import argparse
from typing import TYPE_CHECKING

from maskrcnn_lib.tools.argument_types import count
from maskrcnn_lib.tools.model_options import add_model_arguments

if TYPE_CHECKING:
    import numpy as np

_SIZE = (480, 640)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to ``parser``; KEY VALUE pairs arrive as ``args.opts``."""
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="files that make the batch")
    add_model_arguments(parser)
    parser.add_argument(
        "--size",
        nargs=2,
        type=count,
        default=_SIZE,
        metavar=("H", "W"),
        help="pixels of the noise where no image is named; default: 480 640",
    )
    parser.add_argument(
        "--batch-size",
        type=count,
        metavar="N",
        help="repeat the images up to it; default: each once",
    )
    parser.add_argument("--rounds", type=count, default=20, metavar="N", help="default: 20")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    import torch

    from maskrcnn_lib.engine.benchmark import measure_speed, speed_table
    from maskrcnn_lib.engine.inference import build_detector, choose_model
    from maskrcnn_lib.evaluation.tables import format_table

    cfg, weights = choose_model(
        model=args.model, config=args.config_file, weights=args.weights, overrides=args.opts
    )
    batch = _batch(args)
    detector = build_detector(cfg, weights)
    speed = measure_speed(detector, batch, rounds=args.rounds)
    print(format_table(speed_table(speed)))
    device = detector.device
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(
        f"{where}, {torch.get_num_threads()} threads, {cfg.DTYPE}; medians of {args.rounds} "
        f"batches of {speed.images} images with {speed.found} detections; "
        f"{speed.memory:.0f} MB in use at most"
    )
    return 0


def _batch(args: argparse.Namespace) -> "list[np.ndarray]":
    """The images of a batch, (H, W, 3) uint8 RGB each."""
    import numpy as np

    from maskrcnn_lib.data.image_io import read_image

    images = [read_image(path) for path in args.images]
    if not images:
        images = [np.random.default_rng(0).integers(0, 256, (*args.size, 3), dtype=np.uint8)]
    count = len(images) if args.batch_size is None else args.batch_size
    return [images[place % len(images)] for place in range(count)]
