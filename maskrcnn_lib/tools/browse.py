"""``maskrcnn browse``: pictures of training images and their objects, as a model sees them.

Data sets are catalog names or "coco:ANNOTATIONS.json:IMAGE_DIR"; by default those of the config.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn_lib.tools.argument_types import count
from maskrcnn_lib.tools.interruption import uninterrupted


def browse(
    cfg: Any, output: str | Path, *, names: Sequence[str] = (), count: int = 20, size: int = 0
) -> list[Path]:
    """Draws the first samples of a training: resized, flipped, cropped, with their targets.

    Args:
        cfg: resolved configuration; SEED and INPUT say what is drawn at random.
        output: directory for the pictures, which are numbered in the order of the training.
        names: data sets instead of ``DATASETS.TRAIN``.
        count: pictures.
        size: longer side of the pictures; 0: that at which the model sees them.

    Returns:
        The files.

    Raises:
        ValueError: there is nothing to draw.
        KeyError: the catalog does not know a name.
    """
    from PIL import Image

    from maskrcnn_lib.data.datasets import build_train_dataset
    from maskrcnn_lib.data.statistics import class_names_of
    from maskrcnn_lib.engine.pictures import training_samples

    if count < 1:
        raise ValueError(f"at least 1 picture has to be drawn, not {count}")
    if names:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.DATASETS.TRAIN = tuple(names)
    dataset = build_train_dataset(cfg, check_classes=False)
    target = Path(output)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    samples = training_samples(cfg, dataset, class_names_of(dataset), count, size=size)
    for place, (index, picture) in enumerate(samples):
        name = Path(str(dataset.get_img_info(index).get("file_name", index))).stem
        with uninterrupted():
            written.append(target / f"{place:04d}_{name}.jpg")
            Image.fromarray(picture).save(written[-1], quality=92)
    return written


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to ``parser``; KEY VALUE pairs arrive as ``args.opts``."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets")
    parser.add_argument("--config-file", metavar="F", help="config file or name")
    parser.add_argument("--output", default="browse", metavar="DIR", help="default: browse")
    parser.add_argument(
        "--number", type=count, default=20, metavar="N", help="default: 20 pictures"
    )
    parser.add_argument(
        "--size", type=int, default=0, metavar="PIXELS", help="longer side; default: as trained on"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    from maskrcnn_lib.config import get_cfg

    cfg = get_cfg(args.config_file, args.opts)
    written = browse(cfg, args.output, names=args.names, count=args.number, size=args.size)
    print(f"{len(written)} pictures in {args.output}")
    return 0
