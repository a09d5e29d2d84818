"""Which convolution a norm follows, in networks that do not say it.

Layers of other libraries are called by code of theirs, so it is looked at while it runs: a norm
that is the only one to read what a convolution gave can disappear into it.
"""

from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@torch.no_grad()
def pairs_in_use(
    body: nn.Module, convs: Collection[nn.Module], norms: Collection[nn.Module], images: Tensor
) -> list[tuple[nn.Module, nn.Module]]:
    """The convolutions whose output goes into one of the norms and nowhere else, with that norm.

    Args:
        body: maps images to feature maps; what its convolutions give leaves it changed.
        convs, norms: layers inside ``body``. One that is called more than once is left out.
        images: (N, 3, H, W) to try it on; their values do not matter.
    """
    reading = _Reading()
    hooks = [conv.register_forward_hook(reading.gave) for conv in convs]
    hooks += [norm.register_forward_pre_hook(reading.begins) for norm in norms]
    hooks += [norm.register_forward_hook(reading.ends) for norm in norms]
    try:
        with reading:
            body(images)
    finally:
        for hook in hooks:
            hook.remove()
    once = {layer for layer, count in reading.calls.items() if count == 1}
    readers = ((conv, reading.readers[conv]) for conv in once.intersection(convs))
    pairs = ((conv, *norms) for conv, norms in readers if len(norms) == 1)
    return [(conv, norm) for conv, norm in pairs if norm in once]


class _Reading(TorchDispatchMode):
    """Notes for each convolution inside which norms, None for elsewhere, its outputs are read."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[nn.Module, int] = defaultdict(int)
        self.readers: dict[nn.Module, set[nn.Module | None]] = defaultdict(set)
        self._givers: dict[int, nn.Module] = {}
        self._kept: list[Tensor] = []  # so that no other tensor gets the id of one of them
        self._norm: nn.Module | None = None

    def gave(self, conv: nn.Module, _: Any, output: Tensor) -> None:
        self.calls[conv] += 1
        self._givers[id(output)] = conv
        self._kept.append(output)

    def begins(self, norm: nn.Module, _: Any) -> None:
        self.calls[norm] += 1
        self._norm = norm

    def ends(self, *_: Any) -> None:
        self._norm = None

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        for value in tree_leaves((args, kwargs)):
            if id(value) in self._givers:
                self.readers[self._givers[id(value)]].add(self._norm)
        return func(*args, **(kwargs or {}))
