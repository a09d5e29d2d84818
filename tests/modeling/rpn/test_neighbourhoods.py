"""The RPN head at chosen anchors: the same as over whole maps, values and gradients."""

import pytest
import torch
from torch.nn import functional as F

from maskrcnn_lib.modeling.rpn.neighbourhoods import neighbour_table, neighbourhoods
from maskrcnn_lib.modeling.rpn.rpn import RPNHead

SHAPES = ((5, 7), (3, 4), (1, 1))


def maps(channels: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, channels, *shape, generator=generator, dtype=torch.float64)
        .to(memory_format=torch.channels_last)
        .requires_grad_()
        for shape in SHAPES
    ]


def test_neighbourhoods_are_those_of_unfold():
    features = maps(3)
    expected = torch.cat([F.unfold(feature, 3, padding=1) for feature in features], dim=2)
    expected = expected.unflatten(1, (3, 9)).permute(0, 3, 2, 1).flatten(2)  # (N, P, 9 * C)
    positions = torch.arange(expected.shape[1]).flip(0).expand(2, -1)
    found = neighbourhoods(features, positions, neighbour_table(SHAPES, torch.device("cpu")))
    assert torch.equal(found, expected.flip(1))


@pytest.mark.parametrize(("per_position", "hidden_channels"), [(1, None), (3, None), (3, 5)])
def test_values_and_gradients_at_chosen_anchors_are_those_of_whole_maps(
    per_position, hidden_channels
):
    torch.manual_seed(0)
    head = RPNHead(4, per_position, hidden_channels=hidden_channels).double()
    features = maps(4)
    count = per_position * sum(height * width for height, width in SHAPES)
    # some anchors twice, and neighbours of one another
    anchors = torch.randint(count, (2, 30), generator=torch.Generator().manual_seed(1))
    weights = torch.randn(2, 30, 5, dtype=torch.float64)
    wanted = [*features, *head.parameters()]

    def gradients(logits, offsets):
        total = (torch.cat((logits[..., None], offsets), dim=2) * weights).sum()
        return torch.autograd.grad(total, wanted)

    objectness, boxes = head(features)
    objectness = torch.cat([x.permute(0, 2, 3, 1).flatten(1) for x in objectness], dim=1)
    boxes = torch.cat([x.permute(0, 2, 3, 1).reshape(2, -1, 4) for x in boxes], dim=1)
    dense = objectness.gather(1, anchors), boxes.gather(1, anchors[..., None].expand(-1, -1, 4))
    chosen = head.at(features, anchors)
    for value, expected in zip(chosen, dense, strict=True):
        torch.testing.assert_close(value, expected)
    for value, expected in zip(gradients(*chosen), gradients(*dense), strict=True):
        torch.testing.assert_close(value, expected)
