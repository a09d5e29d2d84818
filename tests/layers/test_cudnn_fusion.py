"""cuDNN's fused convolution against the composition of torch's operators in float32."""

import pytest
import torch
from torch.nn import functional as F

from maskrcnn_lib.layers.convolution import conv2d
from maskrcnn_lib.layers.cudnn_fusion import fuses_convolution

pytestmark = pytest.mark.gpu

# Sums over hundreds of products are rounded to 11 or 8 bits once; gradients likewise.
CLOSE = {torch.float16: 2e-3, torch.bfloat16: 1e-2}


def make_layer(dtype, kernel, stride=1, channels=(16, 24)):
    generator = torch.Generator().manual_seed(0)
    inputs, outputs = channels
    size = -(-20 // stride), -(-12 // stride)
    shapes = (2, inputs, 20, 12), (outputs, inputs, kernel, kernel), (outputs,), (2, outputs, *size)
    values = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    maps = [
        v.to("cuda", memory_format=torch.channels_last) if v.dim() == 4 else v.cuda()
        for v in values
    ]
    place = (stride, stride), (kernel // 2, kernel // 2), (1, 1), 1
    return maps, place


def run(inputs, place, *, with_add, convolve):
    x, weight, bias, add = (value.detach().requires_grad_() for value in inputs)
    y = convolve(x, weight, bias, add if with_add else None, place)
    y.backward(torch.linspace(-1, 1, y.numel(), device=y.device).view(y.shape).to(y))
    grads = [x.grad, weight.grad, bias.grad, *([add.grad] if with_add else [])]
    return [y.detach(), *grads]


def ours(x, weight, bias, add, place):
    assert fuses_convolution(x, weight, place[-1])
    return conv2d(x, weight, bias, *place, add=add, relu=True)


def composed(x, weight, bias, add, place):
    y = F.conv2d(x, weight, bias, *place)
    return F.relu(y if add is None else y + add)


@pytest.mark.parametrize("with_add", [False, True])
@pytest.mark.parametrize("kernel, stride", [(1, 1), (1, 2), (3, 1), (3, 2)])
@pytest.mark.parametrize("dtype", list(CLOSE))
def test_values_and_gradients(dtype, kernel, stride, with_add):
    inputs, place = make_layer(dtype, kernel, stride)
    results = run(inputs, place, with_add=with_add, convolve=ours)
    widened = [value.double() for value in inputs]
    expected = run(widened, place, with_add=with_add, convolve=composed)
    for result, other in zip(results, expected, strict=True):
        assert result.dtype == dtype
        # A value that rounds to the other side of the ReLU's corner is as small as the rounding.
        assert (result.double() - other).norm() < CLOSE[dtype] * other.norm()


def test_without_gradients_it_is_the_same():
    inputs, place = make_layer(torch.bfloat16, 3)
    x, weight, bias, add = inputs
    with_graph = ours(x.requires_grad_(), weight, bias, add, place)
    with torch.inference_mode():
        assert torch.equal(ours(x, weight, bias, add, place), with_graph)


def test_other_convolutions_take_the_other_way():
    (x, weight, *_), _ = make_layer(torch.bfloat16, 3)
    assert fuses_convolution(x, weight, 1)
    assert not fuses_convolution(x.float(), weight.float(), 1)
    assert not fuses_convolution(x.contiguous(), weight, 1)
    assert not fuses_convolution(x, weight, 2)
    assert not fuses_convolution(x, weight[:23], 1)
    assert not fuses_convolution(x[:0], weight, 1)


def test_autocast_computes_in_its_dtype():
    (x, weight, bias, _), place = make_layer(torch.float32, 3)
    weight.requires_grad_()
    with torch.autocast("cuda", torch.bfloat16):
        y = conv2d(x, weight, bias, *place, relu=True)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert weight.grad.dtype == torch.float32
