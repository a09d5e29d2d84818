"""Winograd's convolutions against torch's in float64."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from maskrcnn_lib.layers._library import ops_available
from maskrcnn_lib.layers.packed import PackedConv2d
from maskrcnn_lib.layers.winograd import gains_from_winograd, winograd_conv3x3, winograd_weight

pytestmark = pytest.mark.skipif(not ops_available(), reason="the compiled operators are not built")

# Of results with a standard deviation of 1. The transforms multiply rounding errors of float32 by
# about ten; low precision rounds its input exactly and the result once, to 8 or 11 bits.
TOLERANCE = {torch.float32: 2e-4, torch.float16: 5e-3, torch.bfloat16: 0.03}


def problem(n, channels, outputs, height, width, dtype=torch.float32, seed=0):
    """Input, weight and bias; results have a standard deviation of about 1."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, channels, height, width, generator=generator)
    weight = torch.randn(outputs, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5
    x = x.to(dtype, memory_format=torch.channels_last)
    return x, weight, torch.randn(outputs, generator=generator)


def convolved(x, weight, bias):
    bias = None if bias is None else bias.double()
    return F.conv2d(x.double(), weight.double(), bias, padding=1)


def assert_convolves(x, weight, bias, *, relu=False):
    y = winograd_conv3x3(x, winograd_weight(weight), bias, relu=relu)
    expected = convolved(x, weight, bias)
    assert y.dtype == x.dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    expected = expected.relu() if relu else expected
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=TOLERANCE[x.dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("relu", [False, True])
def test_it_convolves(dtype, relu):
    assert_convolves(*problem(2, 64, 96, 21, 18, dtype), relu=relu)


@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("width", [1, 3, 4, 6, 8])
def test_maps_end_where_tiles_do_not(height, width):
    assert_convolves(*problem(3, 16, 16, height, width))


@pytest.mark.parametrize("outputs", [16, 32, 48])
@pytest.mark.parametrize("channels", [16, 48])
def test_any_multiple_of_16_channels(channels, outputs):
    x, weight, _ = problem(1, channels, outputs, 30, 7)
    assert_convolves(x, weight, None)


def test_an_empty_batch_gives_an_empty_result():
    x, weight, bias = problem(0, 16, 32, 14, 14)
    assert winograd_conv3x3(x, winograd_weight(weight), bias, relu=True).shape == (0, 32, 14, 14)


def test_threads_do_not_change_a_bit():
    x, weight, bias = problem(2, 32, 32, 50, 50)
    weight, threads = winograd_weight(weight), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = winograd_conv3x3(x, weight, bias, relu=False)
        torch.set_num_threads(3)
        shared = winograd_conv3x3(x, weight, bias, relu=False)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(alone, shared)


def test_a_nan_survives_the_relu():
    x, weight, bias = problem(1, 16, 16, 8, 8)
    x[0, 3, 2, 2] = float("nan")
    assert winograd_conv3x3(x, winograd_weight(weight), bias, relu=True)[0, :, 2, 2].isnan().all()


@pytest.mark.parametrize(
    ("x", "weight", "message"),
    [
        (torch.zeros(1, 16, 4, 5), torch.zeros(36, 1, 16, 16), "channels_last"),
        (torch.zeros(1, 4, 5, 8).permute(0, 3, 1, 2), torch.zeros(36, 1, 8, 16), "multiple of 16"),
        (torch.zeros(1, 4, 5, 32).permute(0, 3, 1, 2), torch.zeros(36, 1, 16, 16), "weight"),
        (torch.zeros(1, 4, 5, 16).permute(0, 3, 1, 2), torch.zeros(9, 1, 16, 16), "weight"),
    ],
)
def test_the_operator_refuses_what_does_not_fit(x, weight, message):
    with pytest.raises(RuntimeError, match=message):
        torch.ops.maskrcnn.winograd_conv3x3(x, weight, None, False)


@pytest.mark.parametrize("simd", ["baseline", "avx2"])
def test_narrow_vectors_convolve_too(simd):
    select = "it_convolves or maps_end or any_multiple"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", select],
        env={**os.environ, "MASKRCNN_SIMD": simd},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_the_schema_and_the_fake_kernel_fit():
    x, weight, bias = problem(1, 16, 32, 6, 5)
    arguments = x, winograd_weight(weight), bias, True
    torch.library.opcheck(torch.ops.maskrcnn.winograd_conv3x3.default, arguments)


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel_size": 1, "padding": 0},
        {"stride": 2},
        {"padding": 0},
        {"padding": 2, "dilation": 2},
        {"groups": 2},
        {"padding_mode": "reflect"},
        {"in_channels": 3},
        {"out_channels": 24},
        {"in_channels": 512, "out_channels": 512},
    ],
    ids=str,
)
def test_other_layers_are_left_to_torch(changes):
    arguments = {"in_channels": 64, "out_channels": 64, "kernel_size": 3, "padding": 1, **changes}
    assert not gains_from_winograd(nn.Conv2d(**arguments), torch.float32)


def test_a_packed_layer_takes_it_where_the_processor_has_vectors(monkeypatch):
    conv = nn.Conv2d(32, 32, 3, padding=1)
    x = problem(1, 32, 32, 9, 9)[0]
    for capability, taken in (("AVX512", True), ("AVX2", True), ("DEFAULT", False)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda c=capability: c)
        packed = PackedConv2d(conv, torch.float32)
        assert packed.winograd is taken
        with torch.no_grad():
            expected = convolved(x, conv.weight, conv.bias)
            torch.testing.assert_close(packed(x).double(), expected, rtol=0, atol=2e-4)


def test_a_library_from_a_compiler_without_vectors_is_not_asked(monkeypatch):
    conv = nn.Conv2d(32, 32, 3, padding=1)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert gains_from_winograd(conv, torch.float32)
    without = {"maskrcnn::winograd_conv3x3"}
    asked = torch._C._dispatch_has_kernel_for_dispatch_key
    monkeypatch.setattr(
        torch._C,
        "_dispatch_has_kernel_for_dispatch_key",
        lambda name, key: name not in without and asked(name, key),
    )
    assert not gains_from_winograd(conv, torch.float32)
