"""Who am I among the processes of a distributed run; one process is rank 0 of 1."""

import torch.distributed as dist


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Number of processes of the run; 1 where it is not distributed."""
    return dist.get_world_size() if _is_distributed() else 1


def get_rank() -> int:
    """Number of this process, from 0; 0 where the run is not distributed."""
    return dist.get_rank() if _is_distributed() else 0


def is_main_process() -> bool:
    """Whether this process is the one that writes files and logs."""
    return get_rank() == 0


def synchronize() -> None:
    """Waits until all processes of the run have come here."""
    if get_world_size() > 1:
        dist.barrier()
