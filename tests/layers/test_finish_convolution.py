"""What follows a convolution on a GPU, against torch's own passes over it."""

import pytest
import torch
from torch.nn import functional as F

from maskrcnn_lib.layers.convolution import conv2d
from maskrcnn_lib.layers.finish_convolution import finish_convolution, finishes_convolutions

# One rounding of the result, where torch rounds after each of its two sums.
CLOSE = {
    torch.float64: {"rtol": 1e-14, "atol": 1e-14},
    torch.float32: {"rtol": 1e-6, "atol": 1e-6},
    torch.float16: {"rtol": 2e-3, "atol": 4e-3},
    torch.bfloat16: {"rtol": 2e-2, "atol": 3e-2},
}
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def make_maps(dtype, layout, channels, height=5):
    generator = torch.Generator().manual_seed(0)
    shape = (2, channels, height, 8)
    y, add = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    bias = torch.randn(channels, generator=generator, dtype=torch.float64)
    return [v.to(dtype) for v in (y.to(memory_format=layout), bias, add.to(memory_format=layout))]


def test_the_cpu_is_left_to_torch():
    assert not finishes_convolutions(torch.zeros(1, 1, 1, 1))


def test_a_convolution_with_followers_is_their_composition():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 9, 7, generator=generator)
    weight, bias = torch.randn(6, 4, 3, 3, generator=generator), torch.randn(6, generator=generator)
    add = torch.randn(2, 6, 5, 4, generator=generator)
    place = (2, 2), (1, 1)
    expected = F.relu(F.conv2d(x, weight, bias, *place) + add)
    assert torch.equal(conv2d(x, weight, bias, *place, add=add, relu=True), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_add", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("channels", [3, 64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", list(CLOSE))
def test_values_and_gradients_are_those_of_the_formula(
    dtype, layout, channels, with_bias, with_add, relu
):
    y, bias, add = make_maps(dtype, layout, channels)
    bias, add = bias if with_bias else None, add if with_add else None
    results = []
    inputs = y, bias, add
    for device, run in (("cpu", plain), ("cuda", finish_convolution)):
        given = [v if v is None else v.detach().to(device).requires_grad_() for v in inputs]
        result = run(given[0] * 1, given[1], add=given[2], relu=relu)
        result.backward(torch.linspace(-1, 1, result.numel()).to(result).view(result.shape))
        results.append([result.detach(), *(v.grad for v in given if v is not None)])
    for ours, expected in zip(*reversed(results), strict=True):
        torch.testing.assert_close(ours.cpu(), expected.to(dtype), **CLOSE[dtype])


def plain(y, bias, *, add, relu):
    """The formula in float64."""
    y = y.double()
    if bias is not None:
        y = y + bias.double().view(1, -1, 1, 1)
    if add is not None:
        y = y + add.double()
    return F.relu(y) if relu else y


@pytest.mark.gpu
def test_maps_that_lie_differently_in_memory_are_added():
    y, bias, add = (v.cuda() for v in make_maps(torch.float32, torch.channels_last, 16))
    expected = y + bias.view(1, -1, 1, 1) + add
    result = finish_convolution(y.clone(), bias, add=add.contiguous())
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_that_begins_anywhere_and_empty_maps_are_fine(layout):
    y, bias, _ = (v.cuda() for v in make_maps(torch.bfloat16, layout, 8))
    shifted = torch.empty(y.numel() + 1, device="cuda", dtype=y.dtype)[1:].as_strided(
        y.shape, y.stride()
    )
    shifted.copy_(y)
    expected = finish_convolution(y.clone(), bias, relu=True)
    assert torch.equal(finish_convolution(shifted, bias, relu=True), expected)
    assert finish_convolution(y[:0].clone(), bias).shape == (0, *y.shape[1:])


@pytest.mark.gpu
def test_what_is_not_a_number_stays_so_and_wrong_shapes_are_refused():
    y, bias, add = (v.cuda() for v in make_maps(torch.float32, torch.channels_last, 4))
    y[0, 0, 0, 0] = torch.nan
    assert finish_convolution(y.clone(), bias, relu=True)[0, 0, 0, 0].isnan()
    with pytest.raises(RuntimeError, match="one value of the map's dtype for each channel"):
        finish_convolution(y, bias[:3])
    with pytest.raises(RuntimeError, match="lie in memory as the map does"):
        finish_convolution(y, bias, add=add[:1])
