"""A value that is computed again only after the tensors it follows from have changed."""

from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value")


class _Known(NamedTuple):
    sources: tuple[Tensor, ...]
    state: tuple
    value: object


class Remembered(Generic[Value]):
    """Keeps one value, with the tensors it was computed from.

    It notices a tensor that was replaced or changed in place, but not one that was changed through
    its ``data``, which leaves no trace. Copies, as of a module that holds one, start empty.
    """

    def __init__(self) -> None:
        self._known: _Known | None = None

    def __call__(
        self, sources: tuple[Tensor, ...], key: Hashable, compute: Callable[[], Value]
    ) -> Value:
        """``compute()``, or what it gave the last time if nothing is different now.

        Args:
            sources: the tensors that it computes from.
            key: whatever else it depends on.
            compute: gets no gradient.
        """
        if torch.compiler.is_compiling() or any(source.is_inference() for source in sources):
            return compute()
        # Tensors made in inference mode are of no use to autograd, hence that is looked at, too.
        versions = (source._version for source in sources)
        state = (key, torch.is_inference_mode_enabled(), *versions)
        known = self._known
        same = known is not None and known.state == state
        if not same or any(a is not b for a, b in zip(known.sources, sources, strict=True)):
            with torch.no_grad():
                known = self._known = _Known(sources, state, compute())
        return known.value

    def __deepcopy__(self, memo: dict) -> "Remembered[Value]":
        return Remembered()

    def __reduce__(self) -> tuple:
        return Remembered, ()
