"""Values that are kept because computing them takes longer than looking them up."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value")


# Tables that are kept at a time, for different sizes of image.
CACHED_SHAPES = 32

_users: ContextVar[list[object] | None] = ContextVar("users", default=None)


@contextmanager
def noting_what_is_used() -> Iterator[list[object]]:
    """Yields a list that gets each kept value which is used within.

    A CUDA graph reads them at the same place for as long as it lives, and has to hold them.
    """
    used: list[object] = []
    token = _users.set(used)
    try:
        yield used
    finally:
        _users.reset(token)


def _note(value: object) -> None:
    used = _users.get()
    if used is not None:
        used.append(value)


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
        _note(known.value)
        return known.value

    def __deepcopy__(self, memo: dict) -> "Remembered[Value]":
        return Remembered()

    def __reduce__(self) -> tuple:
        return Remembered, ()


def remembered(cache: OrderedDict[tuple, Value], key: tuple, make: Callable[[], Value]) -> Value:
    """What ``cache`` holds under ``key``; made and put there if it is missing, and the oldest goes.

    Another thread may drop it from the cache at any time. While a model is traced nothing is kept:
    shapes are symbols then, and what is made has no values.
    """
    if torch.compiler.is_compiling():
        return make()
    value = cache.get(key)
    if value is None:
        value = cache[key] = make()
        if len(cache) > CACHED_SHAPES:
            cache.popitem(last=False)
    _note(value)
    return value
