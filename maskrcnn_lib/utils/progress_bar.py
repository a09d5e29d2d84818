"""How far a command is: a bar on a terminal, in a file now and then a line."""

import sys
from typing import Any, TextIO

# Between two lines where nobody watches a bar: in a file, or a cluster's log.
_SECONDS_A_LINE = 30.0


class _Lines:
    """A stream that ends each state of the bar with a new line, not with a carriage return."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            self._stream.write(f"{text}\n")

    def flush(self) -> None:
        self._stream.flush()


def progress_bar(total: int | None, unit: str, *, shown: bool = True, **options: Any) -> Any:
    """A bar of tqdm on the standard error stream.

    Args:
        total: of what is to do; None where that is not known.
        unit: what is counted, such as "image".
        shown: False: nothing is written.
        options: more of ``tqdm.tqdm``, such as ``desc``.

    Returns:
        ``tqdm.tqdm``: a context manager with ``update(n)``.
    """
    from tqdm import tqdm

    if sys.stderr.isatty():
        return tqdm(total=total, unit=unit, disable=not shown, **options)
    return tqdm(
        total=total,
        unit=unit,
        disable=not shown,
        file=_Lines(sys.stderr),
        mininterval=_SECONDS_A_LINE,
        miniters=1,
        ascii=True,
        ncols=79,
        **options,
    )
