"""Layers that maskrcnn-benchmark wrapped for empty batches run on them in torch itself."""

import pytest
import torch

from maskrcnn_lib.layers import BatchNorm2d, Conv2d, ConvTranspose2d, interpolate


@pytest.mark.parametrize(
    "layer, shape",
    [
        (Conv2d(3, 4, 3, stride=2), (0, 4, 3, 3)),
        (Conv2d(3, 6, 3, padding=1, groups=3), (0, 6, 8, 8)),
        (ConvTranspose2d(3, 4, 2, stride=2), (0, 4, 16, 16)),
        (BatchNorm2d(3), (0, 3, 8, 8)),
        (BatchNorm2d(3).eval(), (0, 3, 8, 8)),
    ],
)
def test_layers_run_forward_and_backward_on_an_empty_batch(layer, shape):
    x = torch.zeros(0, 3, 8, 8, requires_grad=True)
    output = layer(x)
    output.sum().backward()
    assert output.shape == shape and x.grad.shape == x.shape
    assert all((p.grad == 0).all() for p in layer.parameters())
    assert all(v.isfinite().all() for v in layer.state_dict().values())


@pytest.mark.parametrize("arguments", [{"mode": "nearest"}, {"mode": "bilinear"}])
def test_interpolate_runs_forward_and_backward_on_an_empty_batch(arguments):
    x = torch.zeros(0, 3, 8, 8, requires_grad=True)
    output = interpolate(x, scale_factor=2, **arguments)
    output.sum().backward()
    assert output.shape == (0, 3, 16, 16) and x.grad.shape == x.shape
