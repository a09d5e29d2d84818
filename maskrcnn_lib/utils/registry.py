"""A dictionary in which users' code puts its builders under the name that a config asks for."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, TypeVar

T = TypeVar("T")


class Registry(dict[str, Any]):
    """Maps names to builders; ``registry.register("name")`` is a decorator.

    ``registry.register("name", builder)`` registers at once, as maskrcnn-benchmark's did. A name
    can be taken only once. Looking up an unknown name raises KeyError with its nearest neighbours.
    """

    def __init__(self, kind: str = "builder") -> None:
        """Args: kind: what the entries are, in words, for error messages."""
        super().__init__()
        self.kind = kind

    def register(self, name: str, entry: T | None = None) -> Callable[[T], T] | T:
        """Registers ``entry`` under ``name``, or returns a decorator that does.

        Raises:
            KeyError: another entry has that name.
        """
        if entry is None:
            return lambda decorated: self._add(name, decorated)
        return self._add(name, entry)

    def _add(self, name: str, entry: T) -> T:
        if name in self and self[name] is not entry:
            raise KeyError(f"{self.kind} {name!r} is registered already, as {self[name]!r}")
        self[name] = entry
        return entry

    def __missing__(self, name: str) -> Any:
        near = get_close_matches(str(name), self, n=3) or sorted(self)
        raise KeyError(f"{self.kind} {name!r} is not registered; did you mean one of {near}?")
