"""What stands for operators that look at places of their own gives what they give."""

import pytest
import torch
from torch.nn import functional as F

from maskrcnn_lib.export.dense_decompositions import deform_conv2d as deformed_by_samples
from maskrcnn_lib.export.dense_decompositions import embedding_bag as sums_of_rows
from maskrcnn_lib.export.dense_decompositions import heat_map_peaks as peaks_on_a_grid
from maskrcnn_lib.layers import heat_map_peaks

deform_conv2d = pytest.importorskip("torchvision.ops").deform_conv2d


def hills(count, size, generator):
    """Heat maps (count, 3, size, size) whose values are all different."""
    coarse = torch.randn(count, 3, 5, 5, generator=generator) * 4
    return F.interpolate(coarse, (size, size), mode="bicubic") if count else coarse


@pytest.mark.parametrize("size", [2, 24, 56])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_key_points_are_found_where_the_operator_finds_them(size, count):
    generator = torch.Generator().manual_seed(size)
    corners = torch.rand(count, 2, generator=generator) * 300 - 50
    sides = torch.rand(count, 2, generator=generator) ** 3 * 250
    sides[:1] = torch.tensor([0.2, -3.0])  # less than a pixel
    boxes = torch.cat((corners, corners + sides), dim=1)
    maps = hills(count, size, generator)
    found, expected = peaks_on_a_grid(maps, boxes), heat_map_peaks(maps, boxes)
    assert found.shape == expected.shape
    # Of values up to 10, products in another order: some last bits.
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-6)


@pytest.mark.parametrize(
    ("groups", "offset_groups", "modulated", "place"),
    [(1, 1, True, (1, 1, 1)), (2, 4, True, (2, 2, 2)), (4, 2, False, (1, 0, 1))],
)
def test_deformed_kernels_see_the_same_samples(groups, offset_groups, modulated, place):
    generator = torch.Generator().manual_seed(groups)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    stride, padding, dilation = place
    x, weight, bias = random(1, 8, 17, 23), random(12, 8 // groups, 3, 3), random(12)
    weight = weight.to(memory_format=torch.channels_last)  # as models have them
    height, width = ((side + 2 * padding - 2 * dilation - 1) // stride + 1 for side in x.shape[2:])
    offset = 3 * random(1, 2 * offset_groups * 9, height, width)  # many reach beyond the map
    mask = random(1, offset_groups * 9, height, width).sigmoid() if modulated else None
    expected = deform_conv2d(
        x, offset, weight, bias, stride=stride, padding=padding, dilation=dilation, mask=mask
    )
    found = deformed_by_samples(
        x,
        weight,
        offset,
        torch.zeros(1, 1) if mask is None else mask,
        bias,
        *(value for value in place for _ in "hw"),
        groups,
        offset_groups,
        modulated,
    )
    # Places are counted from -1 to 1, which costs float32 a digit; sums of 18 to 72 products.
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("bags", [1, 50])
def test_weighted_rows_are_summed(bags):
    generator = torch.Generator().manual_seed(bags)
    table, weights = (
        torch.randn(30, 5, generator=generator),
        torch.rand(bags * 4, generator=generator),
    )
    indices, offsets = torch.randint(30, (bags * 4,), generator=generator), 4 * torch.arange(bags)
    arguments = indices, offsets, False, 0, False, weights, False, None
    expected = torch.ops.aten.embedding_bag.padding_idx(table, *arguments)[0]
    torch.testing.assert_close(sums_of_rows(table, *arguments)[0], expected)
