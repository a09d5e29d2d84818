"""Kills processes while they save checkpoints, one after the other; see test_checkpointer.py.

    python killed_saves.py FOLDER COUNT

Each process is a copy of this one, which costs less than to start Python and PyTorch again. The
kills come at moments that spread over the time of two saves. After each, the newest checkpoint must
load and belong to one iteration. Prints how many kills left a half-written file behind.
"""

import argparse
import os
import signal
import time
from itertools import count
from pathlib import Path

import torch
from torch import nn

from maskrcnn_lib.checkpoint import Checkpointer

WIDTH = 400
LONGEST = 120.0  # seconds that a process may take to its first checkpoint


def save(folder, iteration):
    """Saves a model whose weights all are the number of the iteration."""
    model = nn.Linear(WIDTH, WIDTH)
    nn.init.constant_(model.weight, iteration)
    Checkpointer(model, save_dir=folder).save("model", iteration=iteration)


def saving_process(folder):
    """Starts a process that saves until it is killed; returns its id."""
    process = os.fork()
    if process:
        return process
    try:
        for iteration in count(1):
            save(folder, iteration)
    finally:
        os._exit(1)


def kill_after_first_save(process, tag, delay):
    before, started = tag.stat().st_mtime_ns, time.monotonic()
    while tag.stat().st_mtime_ns == before:
        assert os.waitpid(process, os.WNOHANG) == (0, 0), "the process ended by itself"
        assert time.monotonic() - started < LONGEST
        time.sleep(0.001)
    time.sleep(delay)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def check_newest(folder):
    model = nn.Linear(WIDTH, WIDTH)
    checkpointer = Checkpointer(model, save_dir=folder)
    iteration = checkpointer.load()["iteration"]
    assert checkpointer.report.complete
    assert (model.weight == iteration).all()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder, half_written = arguments.folder, 0
    save(folder, 0)
    started = time.monotonic()
    save(folder, 0)
    seconds = time.monotonic() - started
    for number in range(arguments.count):
        process = saving_process(folder)
        delay = 2 * seconds * number / arguments.count
        kill_after_first_save(process, folder / "last_checkpoint", delay)
        check_newest(folder)
        half_written += any(folder.glob("*.tmp"))
    save(folder, 0)
    assert not list(folder.glob("*.tmp")), "the next save clears up"
    print(half_written)


if __name__ == "__main__":
    main()
