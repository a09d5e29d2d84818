"""The CUDA kernels of RoIAlign against the CPU kernels, which are tested against torchvision."""

import pytest
import torch
from torch import Tensor

from maskrcnn_lib.layers import multilevel_roi_align, roi_align

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
LAYOUTS = (torch.contiguous_format, torch.channels_last)
SCALES = (1 / 4, 1 / 8, 1 / 16, 1 / 32)
IMAGE = (256, 352)
# float32 sums in another order, rounded to the dtype; a pixel's gradient has many terms.
CLOSE = {
    torch.float32: dict(rtol=1e-5, atol=2e-4),
    torch.float64: dict(rtol=1e-12, atol=1e-10),
    torch.float16: dict(rtol=2**-9, atol=1e-3),
    torch.bfloat16: dict(rtol=2**-6, atol=1e-3),
}


def make_pyramid(channels: int, dtype: torch.dtype, layout=torch.channels_last) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, channels, int(IMAGE[0] * s), int(IMAGE[1] * s), generator=generator)
        .to(dtype)
        .contiguous(memory_format=layout)
        for s in SCALES
    ]


def make_rois(count=150) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    centre = torch.rand(count, 2, generator=generator) * torch.tensor(IMAGE[::-1])
    size = torch.exp(torch.rand(count, 2, generator=generator) * 4 + 2)
    image = torch.arange(count) % 2
    return torch.cat([image[:, None], centre - size / 2, centre + size / 2], dim=1)


def with_gradients(device: str, features: list[Tensor], rois: Tensor, *args) -> list[Tensor]:
    features = [level.detach().to(device).requires_grad_() for level in features]
    result = multilevel_roi_align(features, rois.to(device), SCALES, *args)
    generator = torch.Generator().manual_seed(2)
    gradient = torch.randn(result.shape, generator=generator, dtype=torch.float32)
    result.backward(gradient.to(device, result.dtype))
    return [result.detach(), *(level.grad for level in features)]


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [5, 64, 256])
@pytest.mark.parametrize("sampling_ratio", [2, 0])
def test_agrees_with_the_cpu(dtype, layout, channels, sampling_ratio):
    features = make_pyramid(channels, dtype, layout)
    arguments = (features, make_rois(), (7, 6), sampling_ratio, sampling_ratio == 0)
    expected = with_gradients("cpu", *arguments)
    results = with_gradients("cuda", *arguments)
    for result, on_cpu in zip(results, expected, strict=True):
        assert result.stride() == on_cpu.stride()
        torch.testing.assert_close(result.cpu(), on_cpu, **CLOSE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_deterministic_gradient_agrees_with_the_cpu(dtype, layout, deterministic):
    features = make_pyramid(150, dtype, layout)
    for size in ((7, 7), (14, 3)):
        expected = with_gradients("cpu", features, make_rois(), size, 0, True)
        results = with_gradients("cuda", features, make_rois(), size, 0, True)
        again = with_gradients("cuda", features, make_rois(), size, 0, True)
        for result, on_cpu, second in zip(results, expected, again, strict=True):
            torch.testing.assert_close(result.cpu(), on_cpu, **CLOSE[dtype])
            assert torch.equal(result, second)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_agrees_with_torchvision(layout):
    from torchvision.ops import roi_align as torchvision_roi_align

    features = make_pyramid(64, torch.float32, layout)[0].cuda()
    rois = make_rois().cuda()
    for aligned in (False, True):
        for sampling_ratio in (2, 0):
            arguments = (rois, (7, 7), 1 / 4, sampling_ratio, aligned)
            expected = torchvision_roi_align(features, *arguments)
            torch.testing.assert_close(
                roi_align(features, *arguments), expected, **CLOSE[torch.float32]
            )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", [False, True])
def test_never_waits_for_the_device(layout, mode):
    features = [level.cuda().requires_grad_() for level in make_pyramid(16, torch.bfloat16, layout)]
    rois = make_rois().cuda()
    multilevel_roi_align(features, rois, SCALES, 7, 2)  # loads the library
    torch.use_deterministic_algorithms(mode)
    torch.cuda.set_sync_debug_mode("error")
    try:
        multilevel_roi_align(features, rois, SCALES, 7, 2).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.use_deterministic_algorithms(False)
    assert all(level.grad.isfinite().all() for level in features)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", [False, True])
def test_boxes_that_cannot_be_pooled_give_zeros(layout, mode):
    features = make_pyramid(16, torch.float32, layout)[0].cuda().requires_grad_()
    good = make_rois().cuda()
    bad = good.clone()
    bad[0, 0], bad[1, 0], bad[2, 0] = -1, 2, float("nan")
    bad[3, 2], bad[4, 3] = float("nan"), float("inf")
    torch.use_deterministic_algorithms(mode)
    try:
        pooled = roi_align(features, bad, 7, 1 / 4, 0)
        (gradient,) = torch.autograd.grad(pooled.sum(), features)
        rest = roi_align(features, good[5:], 7, 1 / 4, 0)
        (expected,) = torch.autograd.grad(rest.sum(), features)
    finally:
        torch.use_deterministic_algorithms(False)
    assert not pooled[:5].any()
    assert torch.equal(pooled[5:], rest)
    torch.testing.assert_close(gradient, expected, **CLOSE[torch.float32])


def test_works_on_the_current_stream():
    features = make_pyramid(64, torch.float32)[0]
    expected = roi_align(features, make_rois(), 7, 1 / 4, 2)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)  # a kernel on another stream would run before the copies
        on_gpu = features.cuda(non_blocking=True)
        result = roi_align(on_gpu, make_rois().cuda(), 7, 1 / 4, 2)
    stream.synchronize()
    torch.testing.assert_close(result.cpu(), expected, **CLOSE[torch.float32])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_views_that_are_not_aligned_for_vectors(layout):
    large = torch.randn(2, 70, 40, 50).contiguous(memory_format=layout)
    view = large[:, 3:67, 1:, 1:]
    rois = make_rois()
    result = roi_align(view.cuda(), rois.cuda(), 7, 1 / 8, 2)
    on_gpu = large.cuda()[:, 3:67, 1:, 1:]
    assert torch.equal(roi_align(on_gpu, rois.cuda(), 7, 1 / 8, 2), result)
    torch.testing.assert_close(
        result.cpu(), roi_align(view, rois, 7, 1 / 8, 2), **CLOSE[torch.float32]
    )


def test_offsets_beyond_32_bits():
    features = torch.zeros(2, 2**27 + 64, 4, 4, dtype=torch.bfloat16, device="cuda")
    features[1, -64:] = torch.randn(64, 4, 4)
    rois = torch.tensor([[1, 1.0, 1.0, 10.0, 12.0]], device="cuda")
    result = roi_align(features, rois, 2, 1 / 4, 2)[:, -64:]
    expected = roi_align(
        features[1:, -64:].contiguous(), rois - rois.new_tensor([1, 0, 0, 0, 0]), 2, 1 / 4, 2
    )
    torch.testing.assert_close(result, expected)


def test_torch_compile_keeps_one_graph():
    compiled = torch.compile(
        lambda features, rois: roi_align(features.relu(), rois, 7, 1 / 4, 2),
        fullgraph=True,
        backend="aot_eager",
    )
    features, rois = make_pyramid(16, torch.float32)[0].cuda(), make_rois().cuda()
    expected = roi_align(features.relu(), rois, 7, 1 / 4, 2)
    torch.testing.assert_close(compiled(features, rois), expected)
