"""A request to end: SIGTERM and Ctrl-C let the iteration in progress finish and be saved."""

import os
import signal
import threading
from types import FrameType

EXIT_CODE = 128 + signal.SIGTERM
"""What a shell sees of a process that SIGTERM ended."""

_STANDARD_ERROR = 2
_NOTICE = b"\nCtrl-C: this iteration is finished and saved; once more, and it is not\n"


class OrderlyInterrupt(KeyboardInterrupt):
    """Ctrl-C was followed when all ranks had saved and come to an end together."""


class Termination:
    """Inside its ``with`` block SIGTERM and the first Ctrl-C (SIGINT) only raise a flag.

    The second Ctrl-C acts at once. Python allows all this in the main thread; in others the block
    does nothing. A process that ignores Ctrl-C, as in the background of a shell, goes on to.

    Attributes:
        requested: whether a signal has come.
        at_once: while True, a signal ends the process without waiting: what there is to save has
            been saved.
    """

    def __init__(self) -> None:
        self.requested = False
        self.at_once = False
        self._by_user = False
        self._previous: dict[signal.Signals, signal.Handlers] = {}

    def __enter__(self) -> "Termination":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                if number is signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def end(self, done: str) -> BaseException:
        """What to raise when all ranks have agreed to end.

        Args:
            done: for the user, what is saved.
        """
        return OrderlyInterrupt(done) if self._by_user else SystemExit(EXIT_CODE)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        by_user = number == signal.SIGINT
        if by_user and (self.at_once or self.requested):
            raise KeyboardInterrupt
        if self.at_once:
            raise SystemExit(EXIT_CODE)
        self.requested, self._by_user = True, by_user
        if by_user:
            # a stream may be in the middle of a line that this handler has interrupted
            os.write(_STANDARD_ERROR, _NOTICE)
