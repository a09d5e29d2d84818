"""Candidates that do the same work, timed alternately in one process."""

import statistics
import time
from collections.abc import Callable, Sequence

Clock = Callable[[], float]


def alternate(
    calls: Sequence[Callable[[], object]],
    rounds: int,
    clock: Clock = time.perf_counter,
    *,
    warm_up: bool = True,
    shortest: float = 0.0,
) -> list[float]:
    """Median seconds of each call. In each round they run one after the other.

    Args:
        clock: ``time.perf_counter`` for elapsed time; ``time.process_time`` for CPU time of the
            process, which other programs on the machine disturb little.
        warm_up: call each once before, untimed.
        shortest: seconds for which a call is repeated in a round; its time is the mean.
    """
    if warm_up:
        for call in calls:
            call()
    repeats = [1] * len(calls)
    if shortest > 0:
        repeats = [1 + int(shortest / max(_measure(call, 1, clock), 1e-6)) for call in calls]
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, count, taken in zip(calls, repeats, times, strict=True):
            taken.append(_measure(call, count, clock))
    return [statistics.median(taken) for taken in times]


def _measure(call: Callable[[], object], count: int, clock: Clock) -> float:
    started = clock()
    for _ in range(count):
        call()
    return (clock() - started) / count
