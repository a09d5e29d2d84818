"""The linear layer that saves memory, against torch's."""

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F

from maskrcnn_lib.layers.linear import linear


def make_layer(dtype=torch.float32, bias=True):
    generator = torch.Generator().manual_seed(0)
    shapes = [(7, 12), (5, 12), (5,)]
    x, weight, offset = (
        torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes
    )
    return (x, weight, offset) if bias else (x, weight)


@pytest.mark.parametrize("learning", [(0, 1, 2), (0, 1), (1, 2), (0, 2), (0,), (1,), (2,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_and_gradients_are_torchs_bit_by_bit(dtype, learning):
    results = []
    for function in (linear, F.linear):
        layer = make_layer(dtype)
        for index, value in enumerate(layer):
            value.requires_grad_(index in learning)
        y = function(*layer)
        value = F.relu(y, inplace=True)  # as the box head does
        value.square().sum().backward()
        results.append((value, [part.grad for part in layer]))
    (ours, gradients), (expected, theirs) = results
    assert torch.equal(ours, expected)
    for index, (gradient, peer) in enumerate(zip(gradients, theirs, strict=True)):
        assert (gradient is None) == (peer is None) == (index not in learning)
        assert gradient is None or torch.equal(gradient, peer)


def test_no_bias_is_needed():
    results = []
    for function in (linear, F.linear):
        x, weight = make_layer(bias=False)
        function(x, weight, None).square().sum().backward()
        results.append((x.grad, weight.grad))
    for gradient, peer in zip(*results, strict=True):
        assert torch.equal(gradient, peer)


def test_the_input_is_freed_before_its_gradient_is_computed():
    leaf, weight, bias = make_layer()
    x = leaf * 2
    memory = StorageWeakRef(x.untyped_storage())
    y = linear(x, weight, bias)
    del x
    freed = []
    ((makes_y, _), *_) = y.grad_fn.next_functions
    makes_y.register_prehook(lambda _: freed.append(memory.expired()))
    assert not memory.expired()
    y.sum().backward()
    assert freed == [True]


def test_autocast_is_obeyed():
    layer, peer = make_layer(), make_layer()
    with torch.autocast("cpu", torch.bfloat16):
        y, expected = linear(*layer), F.linear(*peer)
    assert y.dtype == expected.dtype == torch.bfloat16 and torch.equal(y, expected)
    y.float().sum().backward()
    expected.float().sum().backward()
    for value, other in zip(layer, peer, strict=True):
        assert torch.equal(value.grad, other.grad)
