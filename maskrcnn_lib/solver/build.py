"""From a config to an optimizer and its learning-rate schedule."""

from typing import Any

import torch
from torch import nn

from maskrcnn_lib.solver.lr_scheduler import WarmupCosineLR, WarmupLR, WarmupMultiStepLR


def make_optimizer(cfg: Any, model: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW over the parameters of ``model`` that are not frozen.

    Parameters with "bias" in their name have ``BIAS_LR_FACTOR`` times the learning rate and decay
    by ``WEIGHT_DECAY_BIAS``, as in maskrcnn-benchmark; parameters that are alike share a group.

    Args:
        cfg: resolved configuration; its numbers are taken as they are, without scaling.

    Raises:
        ValueError: the optimizer is unknown, or all parameters are frozen.
    """
    solver = cfg.SOLVER
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    if not trained:
        raise ValueError("the model has no parameter to train: all are frozen")
    weights = [value for name, value in trained if "bias" not in name]
    biases = [value for name, value in trained if "bias" in name]
    groups = [
        {"params": weights, "lr": solver.BASE_LR, "weight_decay": solver.WEIGHT_DECAY},
        {
            "params": biases,
            "lr": solver.BASE_LR * solver.BIAS_LR_FACTOR,
            "weight_decay": solver.WEIGHT_DECAY_BIAS,
        },
    ]
    groups = [group for group in groups if group["params"]]
    fused = all(value.device.type in ("cpu", "cuda") for _, value in trained)
    if solver.OPTIMIZER == "SGD":
        return torch.optim.SGD(groups, lr=solver.BASE_LR, momentum=solver.MOMENTUM, fused=fused)
    if solver.OPTIMIZER == "ADAMW":
        return torch.optim.AdamW(groups, lr=solver.BASE_LR, fused=fused)
    raise ValueError(f"SOLVER.OPTIMIZER {solver.OPTIMIZER!r} is unknown; use 'SGD' or 'ADAMW'")


def make_lr_scheduler(cfg: Any, optimizer: torch.optim.Optimizer) -> WarmupLR:
    """The schedule ``SOLVER.SCHEDULE`` of the learning rate; it steps once per iteration.

    Raises:
        ValueError: the schedule is unknown.
    """
    solver = cfg.SOLVER
    warmup = (solver.WARMUP_FACTOR, solver.WARMUP_ITERS, solver.WARMUP_METHOD)
    if solver.SCHEDULE == "multistep":
        return WarmupMultiStepLR(optimizer, solver.STEPS, solver.GAMMA, *warmup)
    if solver.SCHEDULE == "cosine":
        return WarmupCosineLR(optimizer, solver.MAX_ITER, *warmup)
    raise ValueError(f"SOLVER.SCHEDULE {solver.SCHEDULE!r} is unknown; use 'multistep' or 'cosine'")
