"""Learning rates against maskrcnn-benchmark's executed values and torch's own schedules."""

import pytest
import torch

from maskrcnn_lib.solver import WarmupCosineLR, WarmupMultiStepLR


def _optimizer(lr=0.02):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def _rates(scheduler, iterations):
    rates = []
    for _ in range(iterations):
        rates.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


# Iteration: learning rate of maskrcnn-benchmark's 1x schedule, to the digits that it printed.
@pytest.mark.parametrize(
    ("iteration", "rate"),
    [
        *[(0, 0.006667), (250, 0.013333), (499, 0.019973), (500, 0.02), (59999, 0.02)],
        *[(60000, 0.002), (79999, 0.002), (80000, 0.0002), (89999, 0.0002)],
    ],
)
def test_one_x_schedule_has_the_rates_of_maskrcnn_benchmark(iteration, rate):
    scheduler = WarmupMultiStepLR(_optimizer(), (60000, 80000))
    scheduler.load_state_dict({"last_epoch": iteration})
    assert scheduler.get_last_lr() == [pytest.approx(rate, abs=5e-7)]
    assert scheduler.optimizer.param_groups[0]["lr"] == scheduler.get_last_lr()[0]


def test_multistep_after_the_warmup_equals_torch():
    ours = _rates(WarmupMultiStepLR(_optimizer(), (5, 9), 0.5, warmup_iters=0), 12)
    theirs = _rates(torch.optim.lr_scheduler.MultiStepLR(_optimizer(), [5, 9], 0.5), 12)
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_cosine_without_warmup_equals_torch():
    ours = _rates(WarmupCosineLR(_optimizer(), 20, warmup_iters=0), 20)
    theirs = _rates(torch.optim.lr_scheduler.CosineAnnealingLR(_optimizer(), 20), 20)
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_constant_warmup_stays_low_and_then_jumps():
    rates = _rates(WarmupMultiStepLR(_optimizer(1.0), (), 0.1, 0.25, 3, "constant"), 5)
    assert rates == [0.25, 0.25, 0.25, 1.0, 1.0]


def test_schedule_that_resumes_follows_the_new_settings():
    old = WarmupMultiStepLR(_optimizer(), (10,), warmup_iters=0)
    _rates(old, 12)
    new = WarmupMultiStepLR(_optimizer(1.0), (100,), warmup_iters=0)
    new.load_state_dict(old.state_dict())
    assert new.get_last_lr() == [1.0]
    assert old.state_dict() == {"last_epoch": 12}


def test_falling_milestones_and_unknown_warmups_are_refused():
    with pytest.raises(ValueError, match="must rise"):
        WarmupMultiStepLR(_optimizer(), (20, 10))
    with pytest.raises(ValueError, match="quadratic"):
        WarmupMultiStepLR(_optimizer(), (10,), warmup_method="quadratic")
