"""Log lines to the terminal and to a file, from one process or from many."""

import logging
import sys
from pathlib import Path

LINE_FORMAT = "%(asctime)s %(name)s %(levelname)s: %(message)s"
_OWNED = "_maskrcnn_lib_target"  # marks the handlers made here, so that they are not made twice


def setup_logger(
    name: str,
    save_dir: str | Path | None,
    distributed_rank: int = 0,
    filename: str = "log.txt",
) -> logging.Logger:
    """Lets logger ``name`` write to stdout and, where ``save_dir`` is given, to a file there.

    Rank 0 writes everything to both; other ranks write to ``{filename}.rank{N}`` only, so that
    nothing is printed twice and nothing is lost. Calling again with the same arguments changes
    nothing.

    Args:
        name: logger name; its children (``name.part``) write to the same places.
        save_dir: directory of the log file, made where it is missing; "" or None for no file.
        distributed_rank: number of this process.
        filename: name of the log file.
    """
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    targets = {getattr(handler, _OWNED, None) for handler in logger.handlers}
    if distributed_rank == 0 and "stdout" not in targets:
        _add(logger, logging.StreamHandler(stream=sys.stdout), "stdout")
    if save_dir:
        directory = Path(save_dir)
        directory.mkdir(parents=True, exist_ok=True)
        suffix = f".rank{distributed_rank}" if distributed_rank else ""
        path = (directory / f"{filename}{suffix}").resolve()
        if str(path) not in targets:
            _add(logger, logging.FileHandler(path, encoding="utf-8"), str(path))
    return logger


def _add(logger: logging.Logger, handler: logging.Handler, target: str) -> None:
    handler.setFormatter(logging.Formatter(LINE_FORMAT))
    setattr(handler, _OWNED, target)
    logger.addHandler(handler)
