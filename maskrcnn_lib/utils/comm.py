"""Who am I among the processes of a distributed run, and what the others say.

One process is rank 0 of 1. What is exchanged are tensors and JSON, and in ``all_gather`` what torch
loads with ``weights_only``, so that no rank can make another one run code.
"""

import io
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


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


def exchange_device() -> torch.device:
    """Device on which tensors can be exchanged: this process's GPU under NCCL, else the CPU."""
    if _is_distributed() and dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def sum_over_ranks(values: Tensor) -> Tensor:
    """Adds up a tensor of equal shape over all ranks.

    Returns:
        The sum on the device of ``values``, the same on every rank; ``values`` itself is unchanged.
    """
    if get_world_size() == 1:
        return values
    total = values.detach().to(exchange_device(), copy=True)
    dist.all_reduce(total)
    return total.to(values.device)


def reduce_dict(input_dict: Mapping[str, Tensor], average: bool = True) -> dict[str, Tensor]:
    """Sums or averages scalars by name over all ranks.

    Args:
        input_dict: scalar tensors; the same names on every rank.
        average: the mean instead of the sum.

    Returns:
        The result by name, the same on every rank.
    """
    if not input_dict:
        return {}
    names = sorted(input_dict)
    values = sum_over_ranks(torch.stack([input_dict[name].detach() for name in names]))
    if average:
        values = values / get_world_size()
    return dict(zip(names, values, strict=True))


def gather(value: Any) -> list[Any] | None:
    """Collects a value of each rank at rank 0.

    Args:
        value: what JSON can say: None, bool, numbers, str, lists, dicts with str as keys. Floats
            keep all bits; sizes may differ between the ranks.

    Returns:
        On rank 0 the values in the order of the ranks, on all others None.
    """
    if get_world_size() == 1:
        return [value]
    parts = _exchange(json.dumps(value).encode(), to_all=False)
    return None if parts is None else [json.loads(part) for part in parts]


def all_gather(data: Any) -> list[Any]:
    """Collects a value of each rank at every rank.

    Args:
        data: tensors, numbers, str, None, and dicts, lists and tuples of them; sizes may differ
            between the ranks. (maskrcnn-benchmark also took what only pickle can say, such as
            BoxLists; send their tensors.)

    Returns:
        The values in the order of the ranks, tensors on the CPU; the same on every rank.

    Raises:
        pickle.UnpicklingError: another kind of object.
    """
    if get_world_size() == 1:
        return [data]
    buffer = io.BytesIO()
    torch.save(data, buffer)
    parts = _exchange(buffer.getvalue(), to_all=True) or []
    load = partial(torch.load, map_location="cpu", weights_only=True)
    return [load(io.BytesIO(part)) for part in parts]


def _exchange(payload: bytes, *, to_all: bool) -> list[bytes] | None:
    """The bytes of each rank, at rank 0 or at all of them; elsewhere None."""
    world_size, rank = get_world_size(), get_rank()
    device = exchange_device()
    lengths = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world_size)]
    dist.all_gather(lengths, torch.tensor([len(payload)], device=device))
    sizes = [int(length) for length in lengths]
    padded = torch.zeros(max(sizes), dtype=torch.uint8, device=device)
    padded[: len(payload)] = torch.frombuffer(bytearray(payload), dtype=torch.uint8).to(device)
    parts = [torch.empty_like(padded) for _ in sizes] if to_all or rank == 0 else None
    if to_all:
        dist.all_gather(parts, padded)
    else:
        dist.gather(padded, parts, dst=0)
    if parts is None:
        return None
    return [part[:size].cpu().numpy().tobytes() for part, size in zip(parts, sizes, strict=True)]
