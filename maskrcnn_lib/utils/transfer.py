"""From the host's memory to a device's without waiting for it."""

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on ``device``; the host does not wait, neither for the copy nor for the device.

    To a GPU it goes through page-locked memory: from other memory, a copy that is not small waits
    for all work that was given to the GPU before.
    """
    device = torch.device(device)
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
