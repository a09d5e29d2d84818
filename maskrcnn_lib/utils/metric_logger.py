"""Averages of what a training loop reports, with maskrcnn-benchmark's names."""

from collections import defaultdict, deque
from statistics import median
from typing import Any

WINDOW = 20


class SmoothedValue:
    """The last values of a series, and the average of all of them.

    Args:
        window_size: how many of the last values ``median`` and ``avg`` look at.
    """

    def __init__(self, window_size: int = WINDOW) -> None:
        self.deque: deque[float] = deque(maxlen=window_size)
        self.total = 0.0
        self.count = 0

    def update(self, value: float) -> None:
        """Appends a value."""
        self.deque.append(value)
        self.count += 1
        self.total += value

    @property
    def value(self) -> float:
        """The last value."""
        return self.deque[-1]

    @property
    def median(self) -> float:
        """Median of the last values."""
        return median(self.deque)

    @property
    def avg(self) -> float:
        """Mean of the last values."""
        return sum(self.deque) / len(self.deque)

    @property
    def global_avg(self) -> float:
        """Mean of all values."""
        return self.total / self.count


class MetricLogger:
    """Named series of numbers.

    Args:
        delimiter: between the series when printed.
        window_size: how many of its last values a series smooths over.
    """

    def __init__(self, delimiter: str = "\t", *, window_size: int = WINDOW) -> None:
        self.meters: defaultdict[str, SmoothedValue] = defaultdict(
            lambda: SmoothedValue(window_size)
        )
        self.delimiter = delimiter

    def update(self, **kwargs: Any) -> None:
        """Appends a number, or a tensor of one element, to each of the series."""
        for name, value in kwargs.items():
            self.meters[name].update(float(value))

    def __getattr__(self, name: str) -> SmoothedValue:
        meters = self.__dict__.get("meters", {})
        if name in meters:
            return meters[name]
        raise AttributeError(f"{type(self).__name__} has no series {name!r}; known: {list(meters)}")

    def __str__(self) -> str:
        return self.delimiter.join(
            f"{name}: {meter.median:.4f} ({meter.global_avg:.4f})"
            for name, meter in self.meters.items()
        )
