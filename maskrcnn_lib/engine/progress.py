"""How a training shows what it does: a log line every so often, and a bar on a terminal."""

import datetime
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from maskrcnn_lib.utils.comm import is_main_process
from maskrcnn_lib.utils.metric_logger import MetricLogger

_MEGABYTE = 1 << 20


def log_line(
    meters: MetricLogger, iteration: int, max_iter: int, *, rate: float, memory: float
) -> str:
    """One line in the form that maskrcnn-benchmark's users know and scripts read.

    Args:
        meters: losses and times in seconds.
        rate: learning rate.
        memory: in megabytes.
    """
    left = datetime.timedelta(seconds=int(meters.time.global_avg * (max_iter - iteration)))
    ends = f"lr: {rate:.6f}", f"max mem: {memory:.0f}"
    return meters.delimiter.join([f"eta: {left}", f"iter: {iteration}", str(meters), *ends])


def used_memory(device: torch.device) -> float:
    """Most memory in use so far in megabytes: of the GPU's, else of this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _MEGABYTE
    try:
        import resource
    except ImportError:  # not on Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MEGABYTE if sys.platform == "darwin" else peak / 1024


@contextmanager
def progress_bar(start: int, end: int) -> Iterator[Any]:
    """A bar on the terminal of the main process; log lines appear above it. Elsewhere nothing."""
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    shown = is_main_process() and sys.stderr.isatty()
    loggers = [logging.getLogger("maskrcnn_lib")]
    redirect = logging_redirect_tqdm(loggers) if shown else nullcontext()
    with redirect, tqdm(initial=start, total=end, unit="it", disable=not shown) as bar:
        yield bar
