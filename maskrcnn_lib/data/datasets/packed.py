"""Many small records in one buffer."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np


class PackedRecords:
    """A read-only list of JSON values that costs loader processes no memory.

    Python objects that a forked process only looks at are copied page by page, because looking
    changes their reference counts; and a spawned process gets a pickle of them all. The bytes of
    one array are shared by the former and cheap for the latter.
    """

    def __init__(self, values: Iterable[Any]) -> None:
        """Packs values of the kinds that JSON knows."""
        encoded = [json.dumps(value, separators=(",", ":")).encode("ascii") for value in values]
        self._ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        self._data = np.frombuffer(b"".join(encoded), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Any:
        """A new copy of value ``index``; raises IndexError outside the range."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} records")
        index %= len(self)
        start = self._ends[index - 1] if index else 0
        return json.loads(self._data[start : self._ends[index]].tobytes())
