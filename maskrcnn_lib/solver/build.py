"""From a config to an optimizer and its learning-rate schedule."""

from typing import Any

import torch
from torch import nn

from maskrcnn_lib.solver.lr_scheduler import WarmupCosineLR, WarmupLR, WarmupMultiStepLR

_BODY = "backbone.body."


def make_optimizer(cfg: Any, model: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW over the parameters of ``model`` that are not frozen.

    Parameters with "bias" in their name have ``BIAS_LR_FACTOR`` times the learning rate and decay
    by ``WEIGHT_DECAY_BIAS``, as in maskrcnn-benchmark; ``WEIGHT_DECAY_NORM`` is for the weights of
    norms, which Detectron and detectron2 let be. ``BODY_LR_FACTOR`` comes on top for the
    backbone's body. Parameters that are alike share a group.

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
    settings = {
        "weight": (solver.BASE_LR, solver.WEIGHT_DECAY),
        "norm": (solver.BASE_LR, decay_of_norms),
        "bias": (solver.BASE_LR * solver.BIAS_LR_FACTOR, solver.WEIGHT_DECAY_BIAS),
    }
    factors = (1.0, solver.BODY_LR_FACTOR)
    # The first group's rate is the one that is logged: the body comes last.
    alike: dict[tuple[str, float], list[nn.Parameter]] = {
        (kind, factor): [] for factor in factors for kind in settings
    }
    for name, value in trained:
        kind = "bias" if "bias" in name else "norm" if name in of_norms else "weight"
        alike[kind, factors[name.startswith(_BODY)]].append(value)
    groups = [
        {"params": values, "lr": settings[kind][0] * factor, "weight_decay": settings[kind][1]}
        for (kind, factor), values in alike.items()
        if values
    ]
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
