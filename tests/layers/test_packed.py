"""Packed layers do what the layers that they replace do."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from maskrcnn_lib.layers.packed import PackedConv2d, PackedLinear, pack_layers

# Of 3x3 convolutions over 16 channels of unit variance, whose results are about 1: float32 sums in
# another order; bfloat16 has 8 bits of mantissa, and rounds inputs, weights and result.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.05}
DTYPES = list(TOLERANCE)
CONVOLUTIONS = [
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "bias": False},
    {"kernel_size": 5, "padding": 2, "groups": 16},
    {"kernel_size": 3, "padding": (1, 0), "groups": 4},
]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def skip_without_bfloat16(dtype):
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor has no bfloat16")


def close(mine, reference, dtype):
    assert mine.dtype == dtype
    torch.testing.assert_close(mine.double(), reference, atol=TOLERANCE[dtype], rtol=1e-2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("add", ["none", "keep", "overwrite"])
@pytest.mark.parametrize("arguments", CONVOLUTIONS, ids=str)
@torch.no_grad()
def test_a_packed_convolution_adds_and_rectifies_as_torch_does_in_float64(
    arguments, add, relu, dtype
):
    skip_without_bfloat16(dtype)
    conv = nn.Conv2d(16, 32, **arguments)
    x = torch.randn(2, 16, 13, 9).to(memory_format=torch.channels_last)
    expected = F.conv2d(
        x.double(),
        conv.weight.double(),
        None if conv.bias is None else conv.bias.double(),
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
    )
    other = None
    if add != "none":
        other = torch.randn(expected.shape).to(dtype, memory_format=torch.channels_last)
        expected = expected + other.double()
    before = None if other is None else other.clone()
    y = PackedConv2d(conv, dtype)(x, add=other, overwrite=add == "overwrite", relu=relu)
    close(y, expected.relu() if relu else expected, dtype)
    assert y.is_contiguous(memory_format=torch.channels_last)
    if add == "keep":
        assert torch.equal(other, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 1000])
@torch.no_grad()
def test_a_packed_linear_layer_takes_any_number_of_rows(rows, relu, dtype):
    skip_without_bfloat16(dtype)
    linear = nn.Linear(48, 20)
    x = torch.randn(rows, 48)
    expected = F.linear(x.double(), linear.weight.double(), linear.bias.double())
    y = PackedLinear(linear, dtype)(x, relu=relu)
    close(y, expected.relu() if relu else expected, dtype)


class Parent(nn.Module):
    unpacked = ("shared",)

    def __init__(self):
        super().__init__()
        self.shared, self.padded = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding_mode="reflect")
        self.same = nn.Conv2d(3, 3, 3, padding="same")
        self.inner = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Linear(4, 4))


def test_what_cannot_be_packed_stays():
    model = Parent()
    assert pack_layers(model, torch.float32) is model
    assert isinstance(model.shared, nn.Conv2d)
    assert isinstance(model.padded, nn.Conv2d)
    assert isinstance(model.same, nn.Conv2d)
    assert [type(layer) for layer in model.inner] == [PackedConv2d, nn.ReLU, PackedLinear]


def test_nothing_is_packed_for_a_dtype_that_onednn_does_not_compute_in():
    assert isinstance(pack_layers(nn.Sequential(nn.Linear(4, 4)), torch.float16)[0], nn.Linear)
