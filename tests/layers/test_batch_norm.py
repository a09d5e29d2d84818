"""FrozenBatchNorm2d against torch's batch norm."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from maskrcnn_lib.layers import FrozenBatchNorm2d


def random_norm(channels, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    norm = FrozenBatchNorm2d(channels)
    norm.weight.uniform_(-2, 2, generator=generator)
    norm.bias.uniform_(-1, 1, generator=generator)
    norm.running_mean.uniform_(-1, 1, generator=generator)
    norm.running_var.uniform_(0.1, 3, generator=generator)
    return norm.to(dtype)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_agrees_with_batch_norm_without_epsilon(dtype, tolerance):
    norm = random_norm(5, dtype)
    x = torch.randn(2, 5, 6, 7, dtype=dtype)
    mean, var, weight, bias = norm.running_mean, norm.running_var, norm.weight, norm.bias
    expected = F.batch_norm(
        x, mean, var, weight, bias, training=False, eps=1e-40
    )  # older torch refuses 0
    torch.testing.assert_close(norm(x), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_keeps_the_dtype_of_its_input(dtype):
    assert random_norm(3)(torch.ones(1, 3, 2, 2, dtype=dtype)).dtype == dtype


def test_keeps_channels_last():
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    assert random_norm(3)(x).is_contiguous(memory_format=torch.channels_last)


def test_scale_and_shift_fold_into_a_convolution():
    conv, norm, x = nn.Conv2d(3, 5, 3, bias=False), random_norm(5), torch.randn(2, 3, 8, 8)
    scale, shift = norm.scale_and_shift()
    folded = F.conv2d(x, conv.weight * scale[:, None, None, None], shift)
    torch.testing.assert_close(folded, norm(conv(x)), rtol=1e-5, atol=1e-5)


def test_has_four_buffers_and_nothing_to_train():
    norm = FrozenBatchNorm2d(4)
    assert list(norm.state_dict()) == ["weight", "bias", "running_mean", "running_var"]
    assert list(norm.parameters()) == []
    x = torch.randn(1, 4, 2, 2)
    assert torch.equal(norm(x), x)
    assert torch.equal(norm.train()(x), x)


def test_gradient_and_empty_batch_pass_through():
    norm = random_norm(3)
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    norm(x).sum().backward()
    expected = norm.scale_and_shift()[0][:, None, None].expand(2, 3, 4, 4)
    torch.testing.assert_close(x.grad, expected)
    assert norm(torch.zeros(0, 3, 4, 4)).shape == (0, 3, 4, 4)


def test_scale_and_shift_follow_every_change_of_a_buffer():
    norm = random_norm(3)
    first = norm.scale_and_shift()
    assert norm.scale_and_shift()[0] is first[0]  # nothing changed: nothing is computed
    norm.running_var.mul_(4)
    torch.testing.assert_close(norm.scale_and_shift()[0], first[0] / 2)
    norm.load_state_dict(random_norm(3).state_dict())
    torch.testing.assert_close(norm.scale_and_shift(), first)
    norm.bias = norm.bias + 1
    torch.testing.assert_close(norm.scale_and_shift()[1], first[1] + 1)
    assert norm.double().scale_and_shift()[0].dtype == torch.float64


def test_scale_and_shift_of_inference_serve_training():
    norm, x = random_norm(3), torch.ones(1, 3, 2, 2, requires_grad=True)
    with torch.inference_mode():
        norm(x)
    norm(x).sum().backward()
    expected = norm.scale_and_shift()[0][:, None, None].expand(1, 3, 2, 2)
    torch.testing.assert_close(x.grad, expected)
    shift = norm.scale_and_shift(torch.bfloat16)[1]
    assert shift.dtype == torch.bfloat16
    assert torch.equal(shift, norm.scale_and_shift()[1].bfloat16())
