"""Learning rates as functions of the iteration, with a warm-up.

The factor of the warm-up is multiplied to the schedule that follows, as in maskrcnn-benchmark; long
linear warm-ups are what lets large batches train (Goyal et al., arXiv:1706.02677).
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

WARMUP_METHODS = ("linear", "constant")


class WarmupLR(LRScheduler):
    """A constant learning rate after a warm-up; the schedules derive from it.

    The learning rate is a function of the iteration alone. So the state is the iteration: a
    training that goes on under a changed schedule follows the new one.

    Args:
        optimizer: its groups' learning rates are those after the warm-up.
        warmup_factor: share of the learning rate at the first iteration.
        warmup_iters: iterations until the full learning rate.
        warmup_method: ``"linear"`` rises evenly, ``"constant"`` stays at ``warmup_factor``.
        last_epoch: the last iteration done; -1 before the first.

    Raises:
        ValueError: the method is unknown.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_factor: float = 1.0 / 3,
        warmup_iters: int = 500,
        warmup_method: str = "linear",
        last_epoch: int = -1,
    ) -> None:
        if warmup_method not in WARMUP_METHODS:
            raise ValueError(
                f"warm-up {warmup_method!r} is unknown; choose one of {list(WARMUP_METHODS)}"
            )
        self.warmup_factor = warmup_factor
        self.warmup_iters = warmup_iters
        self.warmup_method = warmup_method
        super().__init__(optimizer, last_epoch)

    def factor(self, iteration: int) -> float:
        """Learning rate after the warm-up, relative to the full one."""
        return 1.0

    def get_lr(self) -> list[float]:
        """Learning rate per parameter group at iteration ``last_epoch``."""
        factor = self._warmup(self.last_epoch) * self.factor(self.last_epoch)
        return [base * factor for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """The number of iterations done."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes to the iteration of ``state_dict`` and sets the learning rates that belong to it."""
        self.last_epoch = int(state_dict["last_epoch"])
        self._step_count = self.last_epoch + 1
        self._last_lr = self.get_lr()
        for group, base, rate in zip(
            self.optimizer.param_groups, self.base_lrs, self._last_lr, strict=True
        ):
            group["initial_lr"], group["lr"] = base, rate

    def _warmup(self, iteration: int) -> float:
        if iteration >= self.warmup_iters:
            return 1.0
        if self.warmup_method == "constant":
            return self.warmup_factor
        progress = iteration / self.warmup_iters
        return self.warmup_factor * (1 - progress) + progress


class WarmupMultiStepLR(WarmupLR):
    """Falls by ``gamma`` at each of ``milestones``.

    Args:
        optimizer: see :class:`WarmupLR`, as for the arguments that begin with ``warmup``.
        milestones: iterations, rising.
        gamma: factor at each milestone.

    Raises:
        ValueError: the milestones do not rise.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Sequence[int],
        gamma: float = 0.1,
        warmup_factor: float = 1.0 / 3,
        warmup_iters: int = 500,
        warmup_method: str = "linear",
        last_epoch: int = -1,
    ) -> None:
        if list(milestones) != sorted(milestones):
            raise ValueError(f"milestones must rise, got {list(milestones)}")
        self.milestones = list(milestones)
        self.gamma = gamma
        super().__init__(optimizer, warmup_factor, warmup_iters, warmup_method, last_epoch)

    def factor(self, iteration: int) -> float:
        """See :meth:`WarmupLR.factor`."""
        return self.gamma ** bisect_right(self.milestones, iteration)


class WarmupCosineLR(WarmupLR):
    """Falls to zero along half a cosine (Loshchilov and Hutter, arXiv:1608.03983, eq. 5).

    Args:
        optimizer: see :class:`WarmupLR`, as for the arguments that begin with ``warmup``.
        max_iter: iteration at which zero is reached.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_iter: int,
        warmup_factor: float = 1.0 / 3,
        warmup_iters: int = 500,
        warmup_method: str = "linear",
        last_epoch: int = -1,
    ) -> None:
        self.max_iter = max_iter
        super().__init__(optimizer, warmup_factor, warmup_iters, warmup_method, last_epoch)

    def factor(self, iteration: int) -> float:
        """See :meth:`WarmupLR.factor`."""
        return 0.5 * (1 + math.cos(math.pi * min(iteration / self.max_iter, 1.0)))
