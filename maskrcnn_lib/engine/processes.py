"""Joins the processes that torchrun started into one run."""

import datetime
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from maskrcnn_lib.engine.inference import resolve_device
from maskrcnn_lib.engine.termination import OrderlyInterrupt

# One rank may score a whole data set while the others wait.
_PATIENCE = datetime.timedelta(hours=1)


def local_rank() -> int:
    """Number of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", 0))


def restarts() -> int:
    """How often torchrun has started the processes of this machine anew after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


@contextmanager
def joined_processes(device_name: str) -> Iterator[torch.device]:
    """Inside, this process is a rank of its run, if it belongs to one.

    torchrun and ``python -m torch.distributed.launch`` say so in the environment, on one machine or
    on several. Ranks talk over NCCL where they run on GPUs, else over gloo.

    Args:
        device_name: ``MODEL.DEVICE``.

    Yields:
        The device of this process: on GPUs, the one with its local rank.

    Raises:
        ValueError: there are fewer GPUs than processes on this machine.
    """
    device = resolve_device(device_name)
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield device
        return
    options: dict[str, Any] = {"timeout": _PATIENCE, **_meeting_place()}
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if local_rank() >= count:
            raise ValueError(
                f"process {local_rank()} of this machine has no GPU of its own: there are {count}; "
                "start as many processes, or set MODEL.DEVICE cpu"
            )
        device = torch.device("cuda", local_rank())
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device, **options)
    else:
        dist.init_process_group("gloo", **options)
    try:
        yield device
    except (SystemExit, OrderlyInterrupt):  # the ranks agreed to stop
        leave_together()
        raise
    except BaseException:  # the others may never come: do not wait for them
        dist.destroy_process_group()
        raise
    leave_together()


def leave_together() -> None:
    """Ends the group of processes when its last rank is done.

    A rank that leaves early takes the connections of the others away, and whatever still holds the
    group would end its threads while the process ends; both can abort a run that was fine.
    """
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


def _meeting_place() -> dict[str, Any]:
    """Where ranks find each other, in addition to what the environment says.

    torchrun on one machine keeps its store when it restarts processes, so that they could find the
    addresses of dead ones there; each start gets keys of its own.
    """
    if restarts() == 0 or os.environ.get("LOCAL_WORLD_SIZE") != os.environ["WORLD_SIZE"]:
        return {}
    store, rank, world_size = next(dist.rendezvous("env://", timeout=_PATIENCE))
    own = dist.PrefixStore(f"restart{restarts()}", store)
    return {"store": own, "rank": rank, "world_size": world_size}
