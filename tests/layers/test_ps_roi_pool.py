"""Position-sensitive RoI pooling against torchvision, by hand, and against its own reference."""

import importlib

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from maskrcnn_lib.layers import PSROIAlign, PSROIPool, ps_roi_align, ps_roi_pool
from maskrcnn_lib.layers._library import ops_available

from .roi_samples import with_gradient

needs_ops = pytest.mark.skipif(not ops_available(), reason="the compiled operators are not built")
module = importlib.import_module("maskrcnn_lib.layers.ps_roi_pool")
LAYOUTS = (torch.contiguous_format, torch.channels_last)
SIZES = [(3, 3), (7, 7), (2, 5)]
SCALE = 0.25
# Name, arguments behind the scale; torchvision has the same names.
VARIANTS = [("ps_roi_pool", ()), ("ps_roi_align", (2,)), ("ps_roi_align", (-1,))]
FUNCTIONS = {"ps_roi_pool": ps_roi_pool, "ps_roi_align": ps_roi_align}


@pytest.fixture(params=[pytest.param("compiled", marks=needs_ops), "reference"])
def implementation(request, monkeypatch) -> str:
    if request.param == "reference":
        monkeypatch.setattr(module, "ops_available", lambda device: False)
    return request.param


def make_map(size, channels=3, dtype=torch.float64, layout=torch.contiguous_format) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (2, channels * size[0] * size[1], 13, 17)
    features = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return features.contiguous(memory_format=layout)


def make_rois(count=25, dtype=torch.float64) -> Tensor:
    """Boxes of 1 to 90 pixels in images of 52 x 68, some of them partly or wholly outside."""
    generator = torch.Generator().manual_seed(1)
    centre = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 80 - 10
    size = torch.exp(torch.rand(count, 2, generator=generator, dtype=torch.float64) * 4.5)
    image = torch.arange(count)[:, None] % 2
    rois = torch.cat([image, centre - size / 2, centre + size / 2], dim=1)
    rois[0, 1:] = torch.tensor([0, 0, 68, 52])
    rois[1, 1:] = torch.tensor([30, 20, 30, 20])
    rois[2, 1:] = torch.tensor([500, 500, 600, 600])
    rois[3, 1:] = torch.tensor([2, 6, 22, 34])  # corners on halves of the map
    rois[4, 1:] = torch.tensor([-6, -10, 22, 34])
    return rois.to(dtype)


# Sums of at most some hundred terms of size 1 in another order.
TOLERANCE = {torch.float32: 5e-5, torch.float64: 1e-12}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "rule"), VARIANTS)
def test_values_and_gradients_are_torchvisions(implementation, name, rule, size, dtype, layout):
    peer = getattr(pytest.importorskip("torchvision.ops"), name)
    features = make_map(size, dtype=dtype, layout=layout)
    rois = make_rois(dtype=dtype)
    if rule == (-1,):  # torchvision divides by the number of samples, of which a point has none
        rois = rois[(rois[:, 3:] > rois[:, 1:3]).all(dim=1)]
    arguments = (rois, size, SCALE, *rule)
    result, gradient = with_gradient(FUNCTIONS[name], features, *arguments)
    expected, expected_gradient = with_gradient(peer, features, *arguments)
    if name == "ps_roi_pool":  # its values, not its gradients, end before the last row and column
        expected = peer(F.pad(features, (0, 1, 0, 1)), *arguments)
    torch.testing.assert_close(result, expected, rtol=0, atol=TOLERANCE[dtype])
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("name", "rule"), VARIANTS)
def test_half_types_round_the_float32_result_once(implementation, name, rule, dtype):
    features = make_map((3, 3), dtype=dtype)
    arguments = (make_rois(dtype=torch.float32), 3, SCALE, *rule)
    result, gradient = with_gradient(FUNCTIONS[name], features, *arguments)
    expected = FUNCTIONS[name](features.float(), *arguments)
    assert (result.dtype, gradient.dtype) == (dtype, dtype)
    # Rounding of float32 sums in another order may fall to the neighbouring half number.
    close = {"rtol": torch.finfo(dtype).eps, "atol": 1e-5}
    torch.testing.assert_close(result.float(), expected, **close)

    wide = features.float().requires_grad_()
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(result.shape, generator=generator, dtype=torch.float64).to(dtype)
    FUNCTIONS[name](wide, *arguments).backward(noise.float())
    torch.testing.assert_close(gradient.float(), wide.grad, **close)


def test_bins_read_their_own_channels(implementation):
    """Each channel of the map holds its number; channel (c * 2 + i) * 2 + j goes to bin i, j."""
    features = torch.arange(8.0)[None, :, None, None].expand(1, 8, 9, 9)
    roi = torch.tensor([[0, 1.0, 1.0, 7.0, 7.0]])
    expected = torch.arange(8.0).view(1, 2, 2, 2)
    torch.testing.assert_close(ps_roi_pool(features, roi, 2, 1.0), expected)
    torch.testing.assert_close(ps_roi_align(features, roi, 2, 1.0, 2), expected)


@pytest.mark.parametrize("function", list(FUNCTIONS.values()))
def test_a_point_and_a_box_outside_are_finite(implementation, function):
    result, gradient = with_gradient(function, make_map((3, 3)), make_rois()[1:3], 3, SCALE)
    assert result.isfinite().all()
    assert gradient.isfinite().all()
    assert not result[1].any()


def test_whole_pixels_by_hand(implementation):
    """Columns 2.4 to 5.5 round to 2 and 6: two bins of two columns; rows 1 and 2, one bin."""
    features = (10.0 * torch.arange(6)[:, None] + torch.arange(9)).expand(1, 2, 6, 9)
    roi = torch.tensor([[0, 2.4, 1.2, 5.5, 2.6]])
    pooled = ps_roi_pool(features, roi, (1, 2), 1.0)
    assert pooled.tolist() == [[[[(12 + 13 + 22 + 23) / 4, (14 + 15 + 24 + 25) / 4]]]]


@needs_ops
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("name", "rule"), VARIANTS)
def test_gradients_of_first_and_second_order(name, rule, layout):
    features = make_map((2, 3), channels=1, layout=layout)[:1, :, :6, :7].requires_grad_()
    rois = torch.tensor([[0, 1, 2, 20, 22], [0, 3, 3, 5, 30], [0, -9, -9, 90, 90]]).double()

    def pool(x: Tensor) -> Tensor:
        return FUNCTIONS[name](x, rois, (2, 3), SCALE, *rule)

    assert torch.autograd.gradcheck(pool, (features,))
    assert torch.autograd.gradgradcheck(pool, (features,))


@needs_ops
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("interpolate", [True, False])
def test_operators_pass_opcheck(interpolate, dtype, layout):
    features = make_map((3, 2), 2, dtype, layout).requires_grad_()
    rois = make_rois(5, torch.float32)
    arguments = (features, rois, SCALE, 3, 2, 2, interpolate)
    torch.library.opcheck(torch.ops.maskrcnn.ps_roi_pool.default, arguments)
    gradient = torch.randn(5, 2, 3, 2).to(dtype).requires_grad_()
    last = layout == torch.channels_last
    arguments = (gradient, rois, features.shape, SCALE, 2, interpolate, last, False)
    torch.library.opcheck(torch.ops.maskrcnn.ps_roi_pool_backward.default, arguments)


@pytest.mark.parametrize("function", list(FUNCTIONS.values()))
@pytest.mark.parametrize(
    ("shape", "count"), [((2, 8, 9, 9), 0), ((2, 0, 9, 9), 3), ((2, 8, 0, 9), 3), ((2, 8, 9, 0), 3)]
)
def test_empty_input_gives_zeros(implementation, function, shape, count):
    features = torch.zeros(shape, requires_grad=True)
    rois = torch.tensor([[0, 1.0, 1.0, 20.0, 20.0]]).repeat(count, 1)
    result = function(features, rois, 2, SCALE)
    assert result.shape == (count, shape[1] // 4, 2, 2)
    assert not result.any()
    result.sum().backward()
    assert features.grad.shape == shape
    assert not features.grad.any()


@needs_ops
@pytest.mark.parametrize(("name", "rule"), VARIANTS)
def test_results_do_not_depend_on_the_number_of_threads(name, rule):
    features = make_map((7, 7), dtype=torch.float32)
    arguments = (make_rois(100, torch.float32), 7, SCALE, *rule)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 7):
            torch.set_num_threads(count)
            results.append(with_gradient(FUNCTIONS[name], features, *arguments))
    finally:
        torch.set_num_threads(threads)
    for result, gradient in results[1:]:
        assert torch.equal(result, results[0][0])
        assert torch.equal(gradient, results[0][1])


@needs_ops
@pytest.mark.parametrize("function", list(FUNCTIONS.values()))
def test_a_box_of_any_size_is_quick(function):
    rois = torch.tensor([[0, -1e9, -1e9, 1e9, 1e9], [0, -3e38, -3e38, 3e38, 3e38]])
    result, gradient = with_gradient(function, make_map((3, 3), dtype=torch.float32), rois, 3, 1.0)
    assert result.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("function", list(FUNCTIONS.values()))
def test_bad_input_is_named(function):
    rois = make_rois(dtype=torch.float32)
    with pytest.raises(ValueError, match=r"multiple of 3 x 3 channels.*got 10"):
        function(torch.zeros(2, 10, 9, 9), rois, 3, SCALE)
    with pytest.raises(ValueError, match=r"rois\[1\]: expected a batch index in \[0, 1\)"):
        function(torch.zeros(1, 9, 9, 9), rois, 3, SCALE)
    with pytest.raises(TypeError, match="input: "):
        function(torch.zeros(2, 9, 9, 9, dtype=torch.int32), rois, 3, SCALE)


def test_modules_pool_as_the_functions():
    features, rois = make_map((3, 3)), make_rois()
    assert torch.equal(PSROIPool(3, SCALE)(features, rois), ps_roi_pool(features, rois, 3, SCALE))
    aligned = PSROIAlign(3, SCALE, 2)
    assert torch.equal(aligned(features, rois), ps_roi_align(features, rois, 3, SCALE, 2))
    assert "sampling_ratio=2" in repr(aligned)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize(("name", "rule"), VARIANTS)
def test_cuda_agrees_with_the_cpu(name, rule, deterministic, layout):
    features, rois = make_map((3, 3), layout=layout), make_rois()
    expected = with_gradient(FUNCTIONS[name], features, rois, 3, SCALE, *rule)
    torch.use_deterministic_algorithms(deterministic)
    try:
        arguments = (features.cuda(), rois.cuda(), 3, SCALE, *rule)
        result = with_gradient(lambda *args: FUNCTIONS[name](*args).cpu(), *arguments)
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close((result[0], result[1].cpu()), expected, rtol=0, atol=1e-11)
