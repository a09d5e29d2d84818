"""Smooth L1 loss by hand and in float64."""

import numpy as np
import pytest
import torch

from maskrcnn_lib.layers import smooth_l1_loss


def test_parabola_inside_and_line_outside():
    difference = torch.tensor([0.0, 0.5, -1.0, 3.0])
    total = smooth_l1_loss(difference, torch.zeros(4), beta=1, size_average=False)
    assert total == 0 + 0.125 + 0.5 + 2.5
    assert smooth_l1_loss(difference, torch.zeros(4), beta=1) == total / 4


@pytest.mark.parametrize("beta", [1 / 9, 0.5, 2.0])
def test_agrees_with_the_formula_in_float64(beta):
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 100, 4, generator=generator, dtype=torch.float64)
    d = np.abs((first - second).numpy())
    expected = np.where(d < beta, 0.5 * d**2 / beta, d - 0.5 * beta).mean()
    # the same sum in another order
    np.testing.assert_allclose(smooth_l1_loss(first, second, beta), expected, rtol=1e-12)


def test_beta_is_one_ninth_unless_said():
    value = torch.tensor([0.05])
    torch.testing.assert_close(smooth_l1_loss(value, torch.zeros(1)), torch.tensor(0.05**2 * 4.5))


def test_gradient():
    x = torch.tensor([0.02, -0.3, 0.7], dtype=torch.float64, requires_grad=True)
    target = torch.zeros(3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: smooth_l1_loss(v, target), (x,))


@pytest.mark.parametrize("size_average", [True, False])
def test_nothing_to_learn_from_gives_zero_with_gradient(size_average):
    x = torch.zeros(0, 4, requires_grad=True)
    loss = smooth_l1_loss(x, torch.zeros(0, 4), size_average=size_average)
    loss.backward()
    assert loss == 0 and x.grad.shape == (0, 4)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="one shape"):
        smooth_l1_loss(torch.zeros(3, 4), torch.zeros(4))
