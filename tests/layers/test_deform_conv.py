"""Deformable convolution against the plain one, and against samples taken by grid_sample."""

import pytest
import torch
from torch.nn import functional as F

from maskrcnn_lib.layers import DFConv2d

pytest.importorskip("torchvision")


def random_conv(modulated, *, dtype=torch.float64, **options):
    """A layer whose offsets are some pixels long and whose weights differ."""
    torch.manual_seed(0)
    conv = DFConv2d(4, 6, with_modulated_dcn=modulated, **options).to(dtype)
    torch.nn.init.normal_(conv.offset.weight, std=0.3)
    torch.nn.init.normal_(conv.offset.bias)
    return conv


def by_grid_sample(conv, x):
    """The layer's result as its papers define it, sample by sample of the kernel.

    Bilinear samples, zero outside; their places in pixels are brought to -1..1 for grid_sample.
    """
    groups = conv.in_channels // (x.shape[1] // deformable_groups(conv))
    found = F.conv2d(
        x, conv.offset.weight, conv.offset.bias, conv.stride, conv.padding, conv.dilation
    )
    count, _, height, width = found.shape
    side = conv.kernel_size[0]
    offsets = found[:, : 2 * groups * side**2].reshape(count, groups, side**2, 2, height, width)
    weights = torch.ones_like(offsets[:, :, :, 0])
    if len(conv.parts) == 2:
        logits = found[:, 2 * groups * side**2 :]
        weights = 1 / (1 + (-logits.reshape(weights.shape)).exp())
    rows = torch.arange(height, dtype=x.dtype)[:, None] * conv.stride[0] - conv.padding[0]
    columns = torch.arange(width, dtype=x.dtype) * conv.stride[1] - conv.padding[1]
    result = 0
    for sample in range(side**2):
        parts = []
        for group, channels in enumerate(x.chunk(groups, dim=1)):
            down, right = offsets[:, group, sample].unbind(1)
            y = rows + sample // side * conv.dilation[0] + down
            z = columns + sample % side * conv.dilation[1] + right
            grid = torch.stack(((2 * z + 1) / x.shape[3] - 1, (2 * y + 1) / x.shape[2] - 1), -1)
            taken = F.grid_sample(channels, grid, align_corners=False, padding_mode="zeros")
            parts.append(taken * weights[:, group, sample, None])
        kernel = conv.weight[:, :, sample // side, sample % side, None, None]
        result = result + F.conv2d(torch.cat(parts, 1), kernel, groups=conv.groups)
    return result


def deformable_groups(conv):
    return conv.parts[0] // (2 * conv.kernel_size[0] ** 2)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_begins_as_the_plain_convolution_or_half_of_it(stride, dilation, groups):
    torch.manual_seed(0)
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64)
    options = {"stride": stride, "dilation": dilation, "groups": groups}
    for modulated, factor in ((False, 1.0), (True, 0.5)):
        conv = DFConv2d(4, 6, with_modulated_dcn=modulated, bias=True, **options).double()
        assert conv.offset.weight.abs().sum() == conv.offset.bias.abs().sum() == 0
        plain = F.conv2d(x, conv.weight * factor, conv.bias, padding=dilation, **options)
        torch.testing.assert_close(conv(x), plain)


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "dilation": 2},
        {"deformable_groups": 2},
        {"groups": 2, "deformable_groups": 4},
    ],
)
def test_values_and_gradients_are_those_of_bilinear_samples(modulated, options):
    conv = random_conv(modulated, **options)
    x = torch.randn(2, 4, 8, 7, dtype=torch.float64, requires_grad=True)
    mine, reference = conv(x), by_grid_sample(conv, x)
    torch.testing.assert_close(mine, reference)
    inputs = [x, *conv.parameters()]
    weights = torch.randn_like(reference)
    for ours, theirs in zip(
        torch.autograd.grad((mine * weights).sum(), inputs),
        torch.autograd.grad((reference * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("modulated", "channels"), [(False, 18), (True, 27)])
def test_offsets_have_the_published_channels(modulated, channels):
    shapes = {n: tuple(p.shape) for n, p in random_conv(modulated).named_parameters()}
    assert shapes == {
        "weight": (6, 4, 3, 3),
        "offset.weight": (channels, 4, 3, 3),
        "offset.bias": (channels,),
    }


@pytest.mark.parametrize("modulated", [False, True])
def test_layout_makes_no_difference_and_autocast_little(modulated):
    conv = random_conv(modulated, dtype=torch.float32)
    x = torch.randn(2, 4, 9, 7)
    expected = conv(x)
    last = conv.to(memory_format=torch.channels_last)(
        x.contiguous(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(last, expected)
    with torch.autocast("cpu", torch.bfloat16):
        low = conv(x)
    assert low.dtype == torch.bfloat16
    low.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.abs().sum() > 0 for p in conv.parameters())
    # offsets of bfloat16 move samples by up to 2^-8 of their length, of some pixels here
    assert (low - expected).abs().mean() < 0.02 * expected.abs().mean()


def test_a_batch_without_regions_is_taken():
    conv = random_conv(True, dtype=torch.float32)
    y = conv(torch.zeros(0, 4, 5, 5))
    y.sum().backward()
    assert y.shape == (0, 6, 5, 5)


def test_groups_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ValueError, match="DEFORMABLE_GROUPS"):
        DFConv2d(4, 4, deformable_groups=3)
