"""From sums and counts to means over all ranks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import maskrcnn_lib
from maskrcnn_lib.modeling.losses import LossSum, mean_losses

from . import two_ranks

CHECKOUT = Path(maskrcnn_lib.__file__).parents[1]


def test_a_loss_is_its_sum_over_its_count():
    total = torch.tensor(12.0, requires_grad=True)
    losses = mean_losses(
        {"a": LossSum(total * 2, torch.tensor(8)), "b": LossSum(total, torch.tensor(1))}
    )
    assert losses["a"].item() == 3
    assert losses["b"].item() == 12
    losses["a"].backward()
    assert total.grad.item() == 0.25


def test_nothing_counted_is_zero_with_a_gradient():
    weight = torch.tensor(3.0, requires_grad=True)
    (loss,) = mean_losses({"a": LossSum(weight * 0, torch.tensor(0))}).values()
    loss.backward()
    assert loss == 0
    assert weight.grad == 0


def test_no_losses():
    assert mean_losses({}) == {}


@pytest.fixture(scope="module")
def one_and_two_ranks(tmp_path_factory):
    """What one process says, and each of two; the one is this process."""
    directory = tmp_path_factory.mktemp("ranks")
    processes = []
    for rank in range(2):
        environment = {**os.environ, "RANK": str(rank), "WORLD_SIZE": "2"}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
        command = [
            sys.executable,
            two_ranks.__file__,
            str(directory / "rendezvous"),
            str(directory),
        ]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE))
    with torch.random.fork_rng():
        alone = two_ranks.learn_all()
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()[-3000:]
    return alone, [json.loads((directory / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("case", ["objects", "an image without objects", "no objects"])
def test_two_ranks_have_the_losses_and_gradients_of_one(one_and_two_ranks, case):
    """The same four images on one rank, and two and two: the second rank may have no object."""
    alone, both = one_and_two_ranks
    for name, expected in alone[case]["losses"].items():
        mean = (both[0][case]["losses"][name] + both[1][case]["losses"][name]) / 2
        assert mean == pytest.approx(expected, rel=1e-5, abs=1e-5)
    # Sums of squares of the gradients, which DistributedDataParallel has averaged.
    for name, expected in alone[case]["gradients"].items():
        for rank in both:
            assert rank[case]["gradients"][name] == pytest.approx(expected, rel=1e-3, abs=1e-12)
