"""``maskrcnn train``: trains a model; also ``python -m maskrcnn_lib.tools.train_net``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn_lib.tools.argument_types import count

_MODULE = "maskrcnn_lib.tools.train_net"


def train(
    config: str | Path,
    *,
    weights: str | Path | None = None,
    train_data: tuple[str | Path, str | Path] | None = None,
    val_data: tuple[str | Path, str | Path] | None = None,
    resume: bool = False,
    skip_test: bool = False,
    overrides: Sequence[Any] = (),
) -> dict[str, float]:
    """Trains the model of a config; under torchrun, as one of its processes.

    Args:
        config: config name or file.
        weights: initial weights (path, catalog name or URL) instead of ``MODEL.WEIGHT``.
        train_data, val_data: COCO annotation file and directory of its images, instead of
            ``DATASETS.TRAIN`` and ``DATASETS.TEST``. The classes are those of the training data;
            with ``train_data`` alone nothing is evaluated.
        resume: go on from ``OUTPUT_DIR/last_checkpoint``, where there is one.
        skip_test: evaluate nothing.
        overrides: config keys and values, alternating. Of SOLVER they are taken as they are; what
            stands in the config is scaled to the number of images per iteration.

    Returns:
        The last evaluation's numbers, such as ``{"val/segm/AP": 0.34}``.

    Raises:
        ValueError: the config, the data or the schedule cannot be used as they are.
    """
    import logging

    from maskrcnn_lib.config import get_cfg
    from maskrcnn_lib.config.differences import differences
    from maskrcnn_lib.engine.processes import joined_processes, restarts
    from maskrcnn_lib.engine.training import run_training
    from maskrcnn_lib.utils.collect_env import collect_env_info
    from maskrcnn_lib.utils.comm import get_rank, get_world_size
    from maskrcnn_lib.utils.logger import setup_logger

    own = ["MODEL.WEIGHT", str(weights)] if weights is not None else []
    for key, data in (("DATASETS.TRAIN", train_data), ("DATASETS.TEST", val_data)):
        own += [key, (f"coco:{data[0]}:{data[1]}",)] if data is not None else []
    if train_data is not None and val_data is None:
        own += ["DATASETS.TEST", ()]  # the config's are of other data
    own += overrides
    cfg = get_cfg(config, own)
    with joined_processes(cfg.MODEL.DEVICE) as device:
        setup_logger("maskrcnn_lib", cfg.OUTPUT_DIR, get_rank())
        logger = logging.getLogger(__name__)
        logger.info("%d processes, this one on %s", get_world_size(), device)
        logger.info("environment:\n%s", collect_env_info())
        changed = differences(cfg)
        logger.info("config %s with %s; not as by default:\n%s", config, own, changed)
        return run_training(
            cfg,
            device=device,
            given=set(own[0::2]),
            resume=resume or restarts() > 0,
            evaluates=not skip_test,
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to ``parser``; KEY VALUE pairs arrive as ``args.opts``."""
    parser.add_argument("--config-file", required=True, metavar="F", help="config name or file")
    parser.add_argument("--weights", metavar="W", help="initial weights: path, name or URL")
    parser.add_argument("--train-json", metavar="J", help="COCO annotation file to learn from")
    parser.add_argument("--train-images", metavar="DIR", help="directory of its images")
    parser.add_argument("--val-json", metavar="J", help="COCO annotation file to evaluate on")
    parser.add_argument("--val-images", metavar="DIR", help="directory of its images")
    parser.add_argument("--resume", action="store_true", help="go on from OUTPUT_DIR")
    parser.add_argument("--skip-test", action="store_true", help="evaluate nothing")
    parser.add_argument("--num-gpus", type=count, metavar="N", help="train as N processes")
    # what `python -m torch.distributed.launch` of older versions adds; the environment says it, too
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns 0."""
    from maskrcnn_lib.tools.launch import command_line, is_launched, launch

    pairs = {
        "--train": (args.train_json, args.train_images),
        "--val": (args.val_json, args.val_images),
    }
    for option, pair in pairs.items():
        if (pair[0] is None) != (pair[1] is None):
            raise ValueError(f"{option}-json and {option}-images are needed together")
    if (args.num_gpus or 1) > 1 and not is_launched():
        _check_processes(args)
        return launch(_MODULE, command_line(args), args.num_gpus)
    train_data, val_data = (pair if pair[0] is not None else None for pair in pairs.values())
    train(
        args.config_file,
        weights=args.weights,
        train_data=train_data,
        val_data=val_data,
        resume=args.resume,
        skip_test=args.skip_test,
        overrides=args.opts,
    )
    return 0


def _check_processes(args: argparse.Namespace) -> None:
    from maskrcnn_lib.config import get_cfg
    from maskrcnn_lib.tools.launch import check_processes

    check_processes(args.num_gpus, get_cfg(args.config_file, args.opts).MODEL.DEVICE)


if __name__ == "__main__":
    from maskrcnn_lib.tools.cli import main

    sys.exit(main(["train", *sys.argv[1:]]))
