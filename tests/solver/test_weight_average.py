"""The average follows the weights by the formula, and survives a pause."""

import pytest
import torch
from torch import nn

from maskrcnn_lib.solver.weight_average import WeightAverage


def test_average_equals_the_recursion():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = WeightAverage(model, 0.9)
    expected = model[0].weight.detach().double().clone()
    for step in range(20):
        model[0].weight.data.normal_()
        model[1].num_batches_tracked += 1
        average.update(model)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model[0].weight.detach().double()
    torch.testing.assert_close(average.model[0].weight.double(), expected, rtol=1e-5, atol=1e-6)
    assert average.model[1].num_batches_tracked == 20
    assert average.state_dict() == {"updates": 20}


def test_average_is_apart_from_the_model_and_is_not_trained():
    model = nn.Linear(2, 2)
    average = WeightAverage(model, 0.5)
    model.weight.data.zero_()
    assert average.model.weight.abs().sum() > 0
    assert not any(value.requires_grad for value in average.model.parameters())
    assert not average.model.training


def test_senseless_decay_is_refused():
    with pytest.raises(ValueError, match="within 0 and 1"):
        WeightAverage(nn.Linear(1, 1), 1.0)
