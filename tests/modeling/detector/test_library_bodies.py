"""A detector on the body of another library learns a step, all of it or what is not frozen."""

import math

import pytest
import torch

BODIES = {"timm/resnet18-FPN": "layer1.", "torchvision/mobilenet_v3_large-FPN": "features.3."}


@pytest.mark.parametrize("body", list(BODIES))
@pytest.mark.parametrize("freeze_at", [0, 2])
def test_a_training_step_reaches_all_that_is_not_frozen(
    make_tiny_model, toy_batch, body, freeze_at
):
    if body.startswith("timm/"):
        pytest.importorskip("timm")
    model = make_tiny_model(
        MODEL__BACKBONE__CONV_BODY=body,
        MODEL__NORM="batch",
        MODEL__BACKBONE__FREEZE_CONV_BODY_AT=freeze_at,
    )
    learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    last_frozen = f"backbone.body.model.{BODIES[body]}"
    assert any(name.startswith(last_frozen) for name in learned) == (freeze_at == 0)
    before = {name: parameter.detach().clone() for name, parameter in learned.items()}
    optimizer = torch.optim.SGD(learned.values(), lr=0.01)
    losses = model(*toy_batch)
    total = sum(losses.values())
    total.backward()
    assert math.isfinite(total.item())
    assert [name for name, parameter in learned.items() if parameter.grad is None] == []
    optimizer.step()
    body_names = [name for name in learned if ".body." in name and name.endswith("weight")]
    # A residual branch that begins as zero has no gradient inside.
    assert any((learned[name] != before[name]).any() for name in body_names)
