"""What changes the weights: optimizers, learning-rate schedules, averages over time."""

from maskrcnn_lib.solver.build import make_lr_scheduler, make_optimizer
from maskrcnn_lib.solver.lr_scheduler import WarmupCosineLR, WarmupMultiStepLR

__all__ = ["WarmupCosineLR", "WarmupMultiStepLR", "make_lr_scheduler", "make_optimizer"]
