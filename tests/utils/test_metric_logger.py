"""Averages against numpy, and maskrcnn-benchmark's way to print them."""

import numpy as np
import pytest
import torch

from maskrcnn_lib.utils.metric_logger import MetricLogger, SmoothedValue


def test_averages_equal_numpy():
    values = np.random.default_rng(0).normal(size=50)
    series = SmoothedValue(window_size=20)
    for value in values:
        series.update(float(value))
    assert series.median == pytest.approx(np.median(values[-20:]))
    assert series.avg == pytest.approx(values[-20:].mean())
    assert series.global_avg == pytest.approx(values.mean())
    assert series.value == values[-1]


def test_series_are_printed_with_median_and_mean_of_all():
    logger = MetricLogger(delimiter="  ")
    logger.update(loss=1.0, lr=torch.tensor(0.5))
    logger.update(loss=3.0, lr=0.5)
    assert str(logger) == "loss: 2.0000 (2.0000)  lr: 0.5000 (0.5000)"
    assert logger.loss.count == 2
    with pytest.raises(AttributeError, match="'time'"):
        logger.time  # noqa: B018
