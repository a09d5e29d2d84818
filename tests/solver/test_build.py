"""Optimizers as the config describes them."""

import pytest
import torch
from torch import nn

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.solver import WarmupCosineLR, make_lr_scheduler, make_optimizer


def _model():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    model[0].requires_grad_(False)
    return model


def test_biases_learn_twice_as_fast_and_do_not_decay():
    cfg = get_cfg(None, ["SOLVER.BASE_LR", 0.02, "SOLVER.WEIGHT_DECAY", 1e-4])
    model = _model()
    optimizer = make_optimizer(cfg, model)
    settings = {
        id(value): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for value in group["params"]
    }
    assert settings == {
        id(model[1].weight): (0.02, 1e-4),
        id(model[1].bias): (0.04, 0.0),
        id(model[2].weight): (0.02, 1e-4),
        id(model[2].bias): (0.04, 0.0),
    }
    assert isinstance(optimizer, torch.optim.SGD)


def test_weights_of_norms_can_be_left_alone():
    keys = ["SOLVER.WEIGHT_DECAY", 1e-4, "SOLVER.WEIGHT_DECAY_NORM", 0.0]
    model = nn.Sequential(_model(), nn.GroupNorm(2, 2))
    decays = {
        id(value): group["weight_decay"]
        for group in make_optimizer(get_cfg(None, keys), model).param_groups
        for value in group["params"]
    }
    assert decays == {
        id(model[0][1].weight): 0.0,
        id(model[0][1].bias): 0.0,
        id(model[0][2].weight): 1e-4,
        id(model[0][2].bias): 0.0,
        id(model[1].weight): 0.0,
        id(model[1].bias): 0.0,
    }


def test_the_body_can_learn_slower():
    keys = ["SOLVER.BASE_LR", 0.12, "SOLVER.BODY_LR_FACTOR", 0.25, "SOLVER.BIAS_LR_FACTOR", 2.0]
    backbone = nn.ModuleDict({"body": nn.Conv2d(3, 4, 1), "fpn": nn.Conv2d(4, 4, 1)})
    optimizer = make_optimizer(get_cfg(None, keys), nn.ModuleDict({"backbone": backbone}))
    rates = {
        id(value): group["lr"] for group in optimizer.param_groups for value in group["params"]
    }
    assert rates == {
        id(backbone["fpn"].weight): 0.12,
        id(backbone["fpn"].bias): 0.24,
        id(backbone["body"].weight): 0.03,
        id(backbone["body"].bias): 0.06,
    }
    assert optimizer.param_groups[0]["lr"] == 0.12  # which is what the log tells


def test_one_step_equals_the_formula_of_momentum_and_decay():
    cfg = get_cfg(None, ["SOLVER.BASE_LR", 0.1, "SOLVER.WEIGHT_DECAY", 0.01])
    layer = nn.Linear(3, 1, bias=False)
    weight = layer.weight.detach().clone().double()
    optimizer = make_optimizer(cfg, layer)
    velocity = torch.zeros_like(weight)
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        velocity = 0.9 * velocity + (1.0 + 0.01 * weight)
        weight = weight - 0.1 * velocity
    torch.testing.assert_close(layer.weight.double(), weight, rtol=1e-6, atol=1e-6)


def test_adamw_and_cosine_are_chosen_by_name():
    cfg = get_cfg(None, ["SOLVER.OPTIMIZER", "ADAMW", "SOLVER.SCHEDULE", "cosine"])
    optimizer = make_optimizer(cfg, _model())
    assert isinstance(optimizer, torch.optim.AdamW)
    assert isinstance(make_lr_scheduler(cfg, optimizer), WarmupCosineLR)


def test_unknown_names_are_refused_with_the_config():
    with pytest.raises(ValueError, match=r"SOLVER\.OPTIMIZER 'LION' is unknown"):
        get_cfg(None, ["SOLVER.OPTIMIZER", "LION"])


def test_a_wholly_frozen_model_is_refused():
    with pytest.raises(ValueError, match="all are frozen"):
        make_optimizer(get_cfg(), nn.Linear(1, 1).requires_grad_(False))
