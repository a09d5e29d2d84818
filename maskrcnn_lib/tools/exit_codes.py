"""What a shell sees of a command's end, and what its user reads when it ends badly."""

import os
import signal
import sys
from collections.abc import Callable

FAILED = 1
USAGE_ERROR = 2
INTERRUPTED = 128 + signal.SIGINT
_READER_GONE = 128 + 13  # SIGPIPE, which Windows does not have


def exit_code(name: str, work: Callable[[], int]) -> int:
    """Runs a command; errors in what the user gave become a line on the standard error stream.

    Args:
        name: of the command, for that line.
        work: gives its exit code.

    Returns:
        the exit code of ``work``; 1 for an error in what the user gave; 130 after Ctrl-C; 141 where
        the program that reads the output has ended, such as ``head``.
    """
    try:
        code = work()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # what is still to be written has no reader, and Python would complain at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    except (ValueError, KeyError, OSError, ImportError, FloatingPointError, MemoryError) as error:
        if os.environ.get("MASKRCNN_TRACEBACK", "0") not in ("", "0"):
            raise
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"{name}: {type(error).__name__}: {text}", file=sys.stderr)
        print("(MASKRCNN_TRACEBACK=1 shows where this comes from)", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt as interruption:
        what = f": {interruption}" if interruption.args else ""
        print(f"{name}: interrupted{what}", file=sys.stderr)
        return INTERRUPTED
