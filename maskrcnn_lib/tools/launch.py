"""``--num-gpus N``: starts a command again as N processes, through torchrun."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

_OF_THE_LAUNCH = ("num_gpus", "local_rank", "opts")


def relaunch(module: str, arguments: Sequence[str], processes: int) -> NoReturn:
    """Becomes torchrun, which runs ``python -m module arguments`` as several processes.

    This process is replaced, so that signals reach torchrun, which passes them on.

    Args:
        processes: their number on this machine, one per GPU.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", "-m", module, *arguments]
    # Several processes with all processors each would only get in each other's way.
    threads = max(1, (os.cpu_count() or 1) // processes)
    sys.stdout.flush()
    os.execve(sys.executable, command, {"OMP_NUM_THREADS": str(threads), **os.environ})


def command_line(args: argparse.Namespace) -> list[str]:
    """The arguments that give ``args`` again, without those that say how to launch.

    Args:
        args: of a command whose arguments are all options, but for the config keys and values.
    """
    line = []
    for name, value in vars(args).items():
        if name in _OF_THE_LAUNCH or value is None or value is False or value == []:
            continue
        line.append(f"--{name.replace('_', '-')}")
        if value is not True:
            line += map(str, value if isinstance(value, list | tuple) else [value])
    return [*line, *map(str, args.opts)]


def is_launched() -> bool:
    """Whether this process is one of several already."""
    return "LOCAL_RANK" in os.environ


def check_processes(processes: int, device: str) -> None:
    """Finds out before the launch whether each process can have a GPU of its own.

    Args:
        device: ``MODEL.DEVICE``.

    Raises:
        ValueError: there are fewer GPUs.
    """
    import torch

    if device == "cpu":
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if processes > count:
        raise ValueError(
            f"--num-gpus {processes}, but this machine has {count}; MODEL.DEVICE cpu at the end of "
            "the command runs that many processes without a GPU"
        )
