"""Errors of writing that name the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def named_errors(path: str | Path) -> Iterator[None]:
    """Inside the block an OSError of a write, such as of a full disk, names ``path``.

    ``torch.save`` raises a RuntimeError of its own after such an error; it becomes the OSError.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError) or cause.errno is None or cause.filename is not None:
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from error
