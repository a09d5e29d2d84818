"""``--num-gpus N``: runs a command as N processes, through torchrun."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from maskrcnn_lib.tools.exit_codes import FAILED

_OF_THE_LAUNCH = ("num_gpus", "local_rank", "opts")


def launch(module: str, arguments: Sequence[str], processes: int) -> int:
    """Runs ``python -m module arguments`` as several processes, as torchrun does.

    Signals that this process gets go to all of them.

    Args:
        processes: their number on this machine, one per GPU.

    Returns:
        the exit code: 0, that of the first process that failed, or 128 and the number of the signal
        that ended them.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # Several processes with all processors each would only get in each other's way.
    threads = max(1, (os.cpu_count() or 1) // processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    sys.stdout.flush()
    command = ["--standalone", f"--nproc-per-node={processes}", "-m", module, *arguments]
    try:
        run.main(command)
    except SignalException as end:
        return 128 + end.sigval
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode
        what = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        print(f"process {rank} of {processes} ended with {what}", file=sys.stderr)
        return code if code > 0 else FAILED if code == 0 else 128 - code
    return 0


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
        gpus = {0: "no GPU", 1: "1 GPU"}.get(count, f"{count} GPUs")
        raise ValueError(
            f"--num-gpus {processes}, but this machine has {gpus}; MODEL.DEVICE cpu at the end of "
            "the command runs that many processes without a GPU"
        )
