"""The convolution's result does not depend on the library that computes it."""

import pytest
import torch
from torch.nn import functional as F

from maskrcnn_lib.layers.convolution import conv2d


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 4])
def test_values_and_gradients_are_torchs(one_thread, kernel, stride, groups):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, 11, 14, generator=generator)
    weight = torch.randn(12, 8 // groups, kernel, kernel, generator=generator)
    bias = torch.randn(12, generator=generator)
    results = []
    for function, dtype in ((conv2d, torch.float32), (F.conv2d, torch.float64)):
        inputs = [value.to(dtype).requires_grad_() for value in (x, weight, bias)]
        padding = (kernel // 2, kernel // 2)
        y = function(*inputs, (stride, stride), padding, (1, 1), groups)
        results.append([y, *torch.autograd.grad(y.square().sum(), inputs)])
    for ours, exact in zip(*results, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-3)


def test_a_batch_without_regions_is_taken(one_thread):
    x = torch.zeros(0, 8, 5, 5, requires_grad=True)
    weight = torch.ones(4, 8, 1, 1, requires_grad=True)
    y = conv2d(x, weight)
    y.sum().backward()
    assert y.shape == (0, 4, 5, 5)
    assert weight.grad.abs().sum() == 0
