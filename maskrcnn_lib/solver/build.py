"""From a config to an optimizer and its learning-rate schedule."""

from typing import Any

import torch
from torch import nn

from maskrcnn_lib.solver.lr_scheduler import WarmupCosineLR, WarmupLR, WarmupMultiStepLR


def make_optimizer(cfg: Any, model: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW over the parameters of ``model`` that are not frozen.

    Parameters with "bias" in their name have ``BIAS_LR_FACTOR`` times the learning rate and decay
    by ``WEIGHT_DECAY_BIAS``, as in maskrcnn-benchmark; ``WEIGHT_DECAY_NORM`` is for the weights of
    norms, which Detectron and detectron2 let be. Parameters that are alike share a group.

    Args:
        cfg: resolved configuration; its numbers are taken as they are, without scaling.

    Raises:
        ValueError: the optimizer is unknown, or all parameters are frozen.
    """
    solver = cfg.SOLVER
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    if not trained:
        raise ValueError("the model has no parameter to train: all are frozen")
    decay_of_norms = solver.WEIGHT_DECAY_NORM
    of_norms = _norm_parameters(model) if decay_of_norms >= 0 else set()
    norm_weights = [value for name, value in trained if name in of_norms and "bias" not in name]
    weights = [value for name, value in trained if name not in of_norms and "bias" not in name]
    biases = [value for name, value in trained if "bias" in name]
    groups = [
        {"params": weights, "lr": solver.BASE_LR, "weight_decay": solver.WEIGHT_DECAY},
        {"params": norm_weights, "lr": solver.BASE_LR, "weight_decay": decay_of_norms},
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


def _norm_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters of batch and group norms."""
    norms = nn.BatchNorm2d | nn.SyncBatchNorm | nn.GroupNorm
    return {
        f"{home}.{name}" if home else name
        for home, module in model.named_modules()
        if isinstance(module, norms)
        for name, _ in module.named_parameters(recurse=False)
    }


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
