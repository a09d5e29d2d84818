"""Exponential moving average of a model's weights (Polyak and Juditsky, 1992)."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

# The average forgets faster in the beginning, when it would remember the initial weights for long:
# after n updates, decay is at most (1 + n) / (10 + n), as in TensorFlow's moving averages.
_EARLY_OFFSET = 10


class WeightAverage:
    """A second model whose weights follow those of a model in training.

    Args:
        model: bare model; copied, on its device.
        decay: share of the average that remains at each update, in (0, 1).

    Attributes:
        model: the averaged model, in evaluation mode.
        updates: number of updates so far.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"the decay of a weight average must lie within 0 and 1, got {decay}")
        self.decay = decay
        self.updates = 0
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves the average towards ``model``; counters and frozen values are copied."""
        decay = min(self.decay, (1 + self.updates) / (_EARLY_OFFSET + self.updates))
        self.updates += 1
        state = model.state_dict()
        moving, sources = [], []
        for name, average in self.model.state_dict().items():
            if average.is_floating_point():
                moving.append(average)
                sources.append(state[name])
            else:
                average.copy_(state[name])
        torch._foreach_lerp_(moving, sources, 1 - decay)

    def state_dict(self) -> dict[str, int]:
        """The number of updates; the averaged weights are stored as a model's."""
        return {"updates": self.updates}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Takes the number of updates."""
        self.updates = int(state_dict["updates"])

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Begins anew at the weights of a model."""
        self.model.load_state_dict(weights)
        self.updates = 0
