"""What stands for this library's operators in exported graphs gives what they give."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from maskrcnn_lib.export.decompositions import adaptive_avg_pool2d as average_in_torch
from maskrcnn_lib.export.decompositions import batched_nms_fixed as nms_in_torch
from maskrcnn_lib.export.decompositions import decompose, operators_of
from maskrcnn_lib.export.decompositions import multilevel_roi_align as pool_in_torch
from maskrcnn_lib.layers import batched_nms_fixed, multilevel_roi_align

pytest.importorskip("torchvision")


def some_boxes(count, generator, size=300.0):
    corners = torch.rand(count, 2, generator=generator) * size * 0.6
    return torch.cat((corners, corners + 4 + torch.rand(count, 2, generator=generator) * 80), dim=1)


@pytest.mark.parametrize("levels", [1, 4])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_regions_are_pooled_from_their_levels(levels, sampling_ratio, aligned, count):
    generator = torch.Generator().manual_seed(count)
    features = [torch.randn(1, 3, 128 >> i, 96 >> i, generator=generator) for i in range(levels)]
    rois = torch.cat((torch.zeros(count, 1), some_boxes(count, generator, 500)), dim=1)
    scales = [1 / 4 / 2**i for i in range(levels)]
    rule = (sampling_ratio, aligned, 56.0, 4, -1.0)
    expected = multilevel_roi_align(features, rois, scales, (3, 5), *rule)
    pooled = pool_in_torch(features, rois, scales, 3, 5, *rule)
    # Both are float32 means of the same samples, summed up in another order.
    torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("max_per_group", [0, 3])
@pytest.mark.parametrize("count", [0, 1, 400])
def test_the_same_boxes_stay(count, max_per_group):
    generator = torch.Generator().manual_seed(count)
    boxes = some_boxes(count, generator)
    scores = torch.rand(count, generator=generator)
    scores[::7] = -torch.inf
    groups = torch.randint(1, 6, (count,), generator=generator)
    arguments = boxes[None], scores[None], groups[None], 0.5, 60, max_per_group
    expected_indices, expected_counts = batched_nms_fixed(*arguments)
    indices, counts = nms_in_torch(*arguments)
    assert counts.tolist() == expected_counts.tolist()
    assert count < 400 or counts.item() == (15 if max_per_group else 60)
    assert indices.tolist() == expected_indices.tolist()


class Suppressing(nn.Module):
    def forward(self, boxes, scores, groups):
        limit = torch.sym_min(60, boxes.shape[1])
        return torch.ops.maskrcnn.batched_nms_fixed(boxes, scores, groups, 0.5, limit, 0)


def test_graphs_keep_as_few_boxes_as_there_are():
    def rows(count):
        generator = torch.Generator().manual_seed(count)
        scores = torch.rand(1, count, generator=generator)
        return some_boxes(count, generator)[None], scores, torch.ones_like(scores, dtype=int)

    some = {1: torch.export.Dim("some", min=2)}
    recorded = torch.export.export(Suppressing(), rows(70), dynamic_shapes=(some, some, some))
    graph = decompose(recorded)
    assert not operators_of(graph)
    for usable in (0, 1, 2, 90):
        boxes, scores, groups = rows(90)
        scores[:, usable:] = -torch.inf
        expected = batched_nms_fixed(boxes, scores, groups, 0.5, 60, 0)
        assert int(expected[1]) == usable or usable == 90  # of so few, none overlap
        indices, counts = graph.module()(boxes, scores, groups)
        assert counts.tolist() == expected[1].tolist()
        assert indices.tolist() == expected[0].tolist()


@pytest.mark.parametrize("size", [(1, 1), (31, 20), (30, 28), (61, 40)])
def test_windows_of_any_size_are_averaged(size):
    x = torch.randn(2, 3, 61, 40, generator=torch.Generator().manual_seed(0))
    averaged, expected = average_in_torch(x, size), F.adaptive_avg_pool2d(x, size)
    torch.testing.assert_close(averaged, expected, atol=1e-6, rtol=1e-5)
