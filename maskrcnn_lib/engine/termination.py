"""A request to end: SIGTERM lets the iteration in progress finish and be saved."""

import signal
import threading
from types import FrameType

EXIT_CODE = 128 + signal.SIGTERM
"""What a shell sees of a process that SIGTERM ended."""


class Termination:
    """Inside its ``with`` block SIGTERM only raises a flag (Python allows that in the main thread).

    Attributes:
        requested: whether SIGTERM has come.
        at_once: while True, SIGTERM ends the process without waiting: what there is to save has
            been saved.
    """

    def __init__(self) -> None:
        self.requested = False
        self.at_once = False
        self._previous: signal.Handlers | None = None

    def __enter__(self) -> "Termination":
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.at_once:
            raise SystemExit(EXIT_CODE)
        self.requested = True
