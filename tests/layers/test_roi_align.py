"""RoIAlign against torchvision, against arithmetic, and against its own reference."""

import importlib
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from maskrcnn_lib.layers import ROIAlign, roi_align
from maskrcnn_lib.layers._library import ops_available

needs_ops = pytest.mark.skipif(not ops_available(), reason="the compiled operators are not built")
module = importlib.import_module("maskrcnn_lib.layers.roi_align")
LAYOUTS = (torch.contiguous_format, torch.channels_last)
SCALE = 0.25


@pytest.fixture(params=[pytest.param("compiled", marks=needs_ops), "reference"])
def implementation(request, monkeypatch) -> str:
    if request.param == "reference":
        monkeypatch.setattr(module, "ops_available", lambda device: False)
    return request.param


def make_map(shape=(2, 19, 21, 34), dtype=torch.float64, layout=torch.contiguous_format) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return features.contiguous(memory_format=layout)


def make_rois(count=40, images=2, dtype=torch.float64) -> Tensor:
    """Boxes of 1 to 150 pixels in images of 84 x 136, some of them partly or wholly outside."""
    generator = torch.Generator().manual_seed(1)
    centre = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 160 - 10
    size = torch.exp(torch.rand(count, 2, generator=generator, dtype=torch.float64) * 5)
    image = torch.arange(count) % images
    rois = torch.cat([image[:, None], centre - size / 2, centre + size / 2], dim=1)
    rois[0, 1:] = torch.tensor([0, 0, 136, 84])
    rois[1, 1:] = torch.tensor([50, 60, 50, 60])
    rois[2, 1:] = torch.tensor([500, 500, 600, 600])
    return rois.to(dtype)


def with_gradient(function, features: Tensor, *args) -> tuple[Tensor, Tensor]:
    """Result and gradient of the features for a fixed gradient of the result."""
    features = features.detach().clone().requires_grad_()
    result = function(features, *args)
    generator = torch.Generator().manual_seed(2)
    gradient = torch.randn(result.shape, generator=generator, dtype=torch.float64)
    result.backward(gradient.to(result.dtype))
    return result.detach(), features.grad


# float32 sums of at most some thousand terms of size 1 in another order; the sum of a pixel's
# gradient has more and larger terms than that of a bin.
TOLERANCE = {torch.float32: (2e-5, 2e-4), torch.float64: (1e-12, 1e-11)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sampling_ratio", [2, 0])
@pytest.mark.parametrize("aligned", [False, True])
def test_agrees_with_torchvision(implementation, dtype, layout, sampling_ratio, aligned):
    from torchvision.ops import roi_align as torchvision_roi_align

    features = make_map(dtype=dtype, layout=layout)
    arguments = (make_rois(dtype=dtype), (7, 7), SCALE, sampling_ratio, aligned)
    result, gradient = with_gradient(roi_align, features, *arguments)
    expected, expected_gradient = with_gradient(torchvision_roi_align, features, *arguments)
    forward, backward = TOLERANCE[dtype]
    torch.testing.assert_close(result, expected, rtol=0, atol=forward)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=backward)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (5, 3), (3, 9), (14, 14), (1, 20), (28, 17)])
def test_any_output_size_agrees_with_torchvision(implementation, size, layout):
    from torchvision.ops import roi_align as torchvision_roi_align

    arguments = (make_rois(), size, SCALE, 2, True)
    result, gradient = with_gradient(roi_align, make_map(layout=layout), *arguments)
    expected = with_gradient(torchvision_roi_align, make_map(), *arguments)
    torch.testing.assert_close((result, gradient), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("channels", [1, 3, 16, 40, 67, 129, 200, 257])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_number_of_channels_agrees_with_torchvision(layout, channels):
    from torchvision.ops import roi_align as torchvision_roi_align

    features = make_map((2, channels, 9, 5), layout=layout)
    arguments = (make_rois(12), (3, 3), SCALE / 4, 0, False)
    result = with_gradient(roi_align, features, *arguments)
    expected = with_gradient(torchvision_roi_align, features, *arguments)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_round_the_float32_result_once(implementation, dtype, layout):
    features = make_map(dtype=dtype, layout=layout)
    arguments = (make_rois(dtype=torch.float32), 7, SCALE, 0, True)
    result, gradient = with_gradient(roi_align, features, *arguments)
    expected = roi_align(features.float(), *arguments)
    assert result.dtype == dtype
    assert gradient.dtype == dtype
    # Rounding of float32 sums in another order may fall to the neighbouring half number.
    torch.testing.assert_close(result.float(), expected, rtol=torch.finfo(dtype).eps, atol=1e-6)

    wide = features.float().requires_grad_()
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(result.shape, generator=generator, dtype=torch.float64)
    roi_align(wide, *arguments).backward(noise.to(dtype).float())
    torch.testing.assert_close(gradient.float(), wide.grad, rtol=torch.finfo(dtype).eps, atol=1e-5)


@needs_ops
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_half_types_read_and_write_every_value(dtype, layout):
    """A RoI of one pixel returns that pixel, so every bit pattern must come back as it is."""
    patterns = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    patterns = patterns[patterns.isfinite()]
    channels = 64
    features = patterns[: len(patterns) // channels * channels].view(-1, channels, 1, 1)
    features = features.expand(-1, -1, 2, 16).contiguous(memory_format=layout)
    rois = torch.tensor([[0, 3.5, 0.5, 4.5, 1.5]]).repeat(len(features), 1)
    rois[:, 0] = torch.arange(len(features))
    result = roi_align(features, rois, 1, 1.0, 1, True)
    assert torch.equal(result.flatten(), features[:, :, :1, :1].flatten())


def test_a_ramp_gives_the_centres_of_the_bins(implementation):
    y = torch.arange(30, dtype=torch.float64) + 0.5
    x = torch.arange(40, dtype=torch.float64) + 0.5
    ramp = (3 * y[:, None] + 5 * x)[None, None]  # value at a continuous position: 3 y + 5 x
    roi = torch.tensor([[0, 12.0, 8.0, 100.0, 92.0]], dtype=torch.float64)  # 3..25 x 2..23 here
    centre_y = 2 + (torch.arange(7) + 0.5) * 21 / 7
    centre_x = 3 + (torch.arange(4) + 0.5) * 22 / 4
    for sampling_ratio in (0, 1, 2, 5):
        result = roi_align(ramp, roi, (7, 4), SCALE, sampling_ratio, True)
        torch.testing.assert_close(result[0, 0], (3 * centre_y[:, None] + 5 * centre_x).double())


def test_not_aligned_is_aligned_of_a_box_moved_by_half_a_pixel(implementation):
    rois = make_rois()
    rois = rois[((rois[:, 3:] - rois[:, 1:3]) * SCALE >= 1).all(dim=1)]  # no smallest size applies
    moved = rois.clone()
    moved[:, 1:] += 0.5 / SCALE
    result = roi_align(make_map(), rois, 7, SCALE, 2, False)
    torch.testing.assert_close(result, roi_align(make_map(), moved, 7, SCALE, 2, True))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_boxes_that_end_before_they_begin_agree_with_torchvision(implementation, layout):
    from torchvision.ops import roi_align as torchvision_roi_align

    rois = make_rois()[:, [0, 3, 4, 1, 2]]
    arguments = (rois, (5, 4), SCALE, 3, True)
    result = with_gradient(roi_align, make_map(layout=layout), *arguments)
    expected = with_gradient(torchvision_roi_align, make_map(), *arguments)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-11)


@needs_ops
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_box_of_any_size_is_quick(layout):
    rois = torch.tensor([[0, -1e9, -1e9, 1e9, 1e9], [0, -3e38, -3e38, 3e38, 3e38]])
    result, gradient = with_gradient(
        roi_align, make_map(dtype=torch.float32, layout=layout), rois, 7, SCALE, 0, True
    )
    assert result.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_format_follows_the_input(implementation, layout):
    features = make_map(layout=layout)
    result, gradient = with_gradient(roi_align, features, make_rois(), 7, SCALE, 2)
    assert result.is_contiguous(memory_format=layout)
    assert gradient.is_contiguous(memory_format=layout)


def views() -> dict[str, Tensor]:
    """Tensors that are the same map in memory that is not contiguous."""
    features = make_map()
    large = torch.full((4, 25, 30, 50), float("nan"), dtype=torch.float64)
    last = large.clone().contiguous(memory_format=torch.channels_last)
    n, c, h, w = features.shape
    strided = torch.full((n, c, h, 2 * w), float("nan"), dtype=torch.float64)[..., ::2]
    result = {
        "part": large[1:3, 4 : 4 + c, 5 : 5 + h, 6 : 6 + w],
        "part, channels last": last[1:3, 4 : 4 + c, 5 : 5 + h, 6 : 6 + w],
        "every second column": strided,
        "transposed": torch.empty(n, c, w, h, dtype=torch.float64).transpose(2, 3),
    }
    for view in result.values():
        view.copy_(features)
    return result


@pytest.mark.parametrize("name", list(views()))
def test_input_need_not_be_contiguous(implementation, name):
    features = views()[name]
    expected = roi_align(make_map(), make_rois(), 7, SCALE, 2)
    torch.testing.assert_close(roi_align(features, make_rois(), 7, SCALE, 2), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_of_the_result_need_not_be_contiguous(implementation, layout):
    features = make_map(layout=layout).requires_grad_()
    roi_align(features, make_rois(), 7, SCALE, 2).sum().backward()
    ones = make_map(layout=layout).requires_grad_()
    pooled = roi_align(ones, make_rois(), 7, SCALE, 2)
    pooled.backward(torch.ones_like(pooled))
    torch.testing.assert_close(features.grad, ones.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 19, 300])
def test_gradient_of_the_result_may_be_in_either_memory_format(implementation, dtype, channels):
    features = make_map((2, channels, 21, 34), dtype, torch.channels_last).requires_grad_()
    pooled = roi_align(features, make_rois(dtype=torch.float32), (5, 7), SCALE, 2)
    grad = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    first, last = (
        torch.autograd.grad(pooled, features, grad.contiguous(memory_format=layout), True)[0]
        for layout in LAYOUTS
    )
    assert torch.equal(first, last)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "count"),
    [((2, 4, 8, 8), 0), ((2, 0, 8, 8), 3), ((2, 4, 0, 8), 3), ((2, 4, 8, 0), 3), ((0, 4, 8, 8), 0)],
)
def test_empty_input_gives_zeros(implementation, shape, count, layout):
    features = torch.zeros(shape).contiguous(memory_format=layout).requires_grad_()
    rois = torch.tensor([[0, 1.0, 1.0, 20.0, 20.0]]).repeat(count, 1)
    result = roi_align(features, rois, (3, 5), SCALE, 2)
    assert result.shape == (count, shape[1], 3, 5)
    assert not result.any()
    result.sum().backward()
    assert features.grad.shape == shape
    assert not features.grad.any()


@needs_ops
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_do_not_depend_on_the_number_of_threads(dtype, layout):
    features = make_map((2, 300, 40, 50), dtype=dtype, layout=layout)
    arguments = (make_rois(200, dtype=torch.float32), 7, SCALE, 0, False)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 7, 1, 2):
            torch.set_num_threads(count)
            results.append(with_gradient(roi_align, features, *arguments))
    finally:
        torch.set_num_threads(threads)
    for result, gradient in results[1:]:
        assert torch.equal(result, results[0][0])
        assert torch.equal(gradient, results[0][1])


@needs_ops
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sampling_ratio", [2, 0])
def test_gradients_of_first_and_second_order(layout, sampling_ratio):
    features = make_map((1, 2, 6, 7), layout=layout).requires_grad_()
    rois = torch.tensor([[0, 1, 2, 20, 22], [0, 3, 3, 5, 30], [0, -9, -9, 90, 90]]).double()

    def pool(x: Tensor) -> Tensor:
        return roi_align(x, rois, (2, 3), SCALE, sampling_ratio, True)

    assert torch.autograd.gradcheck(pool, (features,))
    assert torch.autograd.gradgradcheck(pool, (features,))


def test_reference_has_the_right_gradient(monkeypatch):
    monkeypatch.setattr(module, "ops_available", lambda device: False)
    features = make_map((1, 2, 6, 7)).requires_grad_()
    rois = torch.tensor([[0, 1, 2, 20, 22], [0, 3, 3, 5, 30]]).double()
    assert torch.autograd.gradcheck(lambda x: roi_align(x, rois, 2, SCALE, 0), (features,))


@needs_ops
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operators_pass_opcheck(dtype, layout):
    features = make_map((2, 3, 9, 12), dtype, layout).requires_grad_()
    rois = make_rois(5, dtype=torch.float32)
    arguments = (features, rois, SCALE, 3, 2, 0, True)
    torch.library.opcheck(torch.ops.maskrcnn.roi_align.default, arguments)
    gradient = make_map((5, 3, 3, 2), dtype, layout).requires_grad_()
    last = layout == torch.channels_last
    arguments = (gradient, rois, [2, 3, 9, 12], SCALE, 0, True, last, False)
    torch.library.opcheck(torch.ops.maskrcnn.roi_align_backward.default, arguments)


@needs_ops
@pytest.mark.parametrize("layout", LAYOUTS)
def test_torch_compile_keeps_one_graph(layout):
    @torch.compile(fullgraph=True, backend="aot_eager")
    def head(features: Tensor, rois: Tensor) -> Tensor:
        return roi_align(features.relu(), rois, 7, SCALE, 2).mean(dim=(2, 3))

    features = make_map(dtype=torch.float32, layout=layout)
    for count in (6, 9):
        rois = make_rois(count, dtype=torch.float32)
        compiled = with_gradient(head, features, rois)
        eager = with_gradient(
            lambda x, rois: roi_align(x.relu(), rois, 7, SCALE, 2).mean(dim=(2, 3)), features, rois
        )
        torch.testing.assert_close(compiled, eager)


def test_autocast_leaves_the_type_alone(implementation):
    features = make_map(dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = roi_align(features, make_rois(dtype=torch.float32), 7, SCALE, 2)
    assert result.dtype == torch.bfloat16


@needs_ops
def test_offsets_beyond_32_bits_are_read():
    """The second image lies 2^31 numbers behind the first; the memory between is never touched."""
    distance = 2**31 + 8
    small = make_map((1, 16, 8, 8), torch.bfloat16)
    memory = torch.empty(distance + small.numel(), dtype=torch.bfloat16)
    rois = torch.tensor([[1, 2.0, 3.0, 20.0, 25.0]])
    for layout in LAYOUTS:
        strides = small.contiguous(memory_format=layout).stride()
        features = memory.as_strided((2, 16, 8, 8), (distance, *strides[1:]))
        features[1] = small[0]
        expected = roi_align(
            small.contiguous(memory_format=layout),
            rois - torch.tensor([1.0, 0, 0, 0, 0]),
            7,
            SCALE,
            2,
        )
        assert torch.equal(roi_align(features, rois, 7, SCALE, 2), expected)


@needs_ops
@pytest.mark.slow
def test_offsets_beyond_32_bits_are_written():
    """The gradient has 2^31 numbers and more: 4.3 GB. The box lies in its last corner."""
    side, small = 8193, 64
    rois = torch.tensor([[1, 200.0, 200.0, 216.0, 216.0]])  # samples fall on binary fractions
    far = rois + torch.tensor([0.0, *[(side - small) / SCALE] * 4])
    gradient = make_map((1, 16, 2, 2), torch.bfloat16, torch.channels_last)
    spread = torch.ops.maskrcnn.roi_align_backward
    expected = spread(gradient, rois, [2, 16, small, small], SCALE, 2, False, True, False)
    result = spread(gradient, far, [2, 16, side, side], SCALE, 2, False, True, False)
    assert result.numel() > 2**31
    assert expected[1].any()
    assert torch.equal(result[:, :, -small:, -small:], expected)


def bad_row(column: int, value: float) -> Tensor:
    rois = make_rois(dtype=torch.float32)
    rois[3, column] = value
    return rois


BAD_INPUT = {
    "map of 3 dimensions": (dict(input=torch.zeros(4, 8, 8)), ValueError, r"input: .*\(4, 8, 8\)"),
    "integer map": (dict(input=torch.zeros(2, 4, 8, 8, dtype=torch.int32)), TypeError, "input: "),
    "boxes without image": (dict(rois=torch.zeros(3, 4)), ValueError, r"rois: .*\(3, 4\)"),
    "integer boxes": (dict(rois=torch.zeros(3, 5, dtype=torch.int64)), TypeError, "rois: "),
    "boxes in a list": (dict(rois=[[0.0] * 5]), TypeError, "rois must be a torch.Tensor"),
    "map of numpy": (dict(input=torch.zeros(1, 4, 8, 8).numpy()), TypeError, "input must be"),
    "other device": (dict(rois=torch.zeros(3, 5, device="meta")), ValueError, "rois: on meta"),
    "image beyond the last": (dict(rois=bad_row(0, 2)), ValueError, r"rois\[3\]"),
    "image before the first": (dict(rois=bad_row(0, -1)), ValueError, r"rois\[3\]"),
    "image is not a number": (dict(rois=bad_row(0, float("nan"))), ValueError, r"rois\[3\]"),
    "box is not a number": (dict(rois=bad_row(2, float("nan"))), ValueError, r"rois\[3\]"),
    "infinite box": (dict(rois=bad_row(3, float("inf"))), ValueError, r"rois\[3\]"),
    "no bins": (dict(output_size=(0, 7)), ValueError, "output_size: "),
    "three sizes": (dict(output_size=(7, 7, 7)), ValueError, "output_size: "),
    "no scale": (dict(spatial_scale=0.0), ValueError, "spatial_scale: "),
    "scale is not a number": (dict(spatial_scale=float("nan")), ValueError, "spatial_scale: "),
}


@pytest.mark.parametrize("case", list(BAD_INPUT))
def test_bad_input_is_named(implementation, case):
    changes, error, message = BAD_INPUT[case]
    arguments = {
        "input": make_map(dtype=torch.float32),
        "rois": make_rois(dtype=torch.float32),
        "output_size": 7,
        "spatial_scale": SCALE,
        "sampling_ratio": 2,
    }
    with pytest.raises(error, match=message):
        roi_align(**{**arguments, **changes})


@needs_ops
@pytest.mark.parametrize("rois", [bad_row(0, 2), bad_row(0, -1), bad_row(2, float("nan"))])
def test_the_kernels_themselves_refuse_bad_boxes(rois):
    features = make_map(dtype=torch.float32)
    with pytest.raises(RuntimeError, match=r"rois\[3, [02]\]"):
        torch.ops.maskrcnn.roi_align(features, rois, SCALE, 7, 7, 2, False)
    gradient = torch.zeros(len(rois), 19, 7, 7)
    with pytest.raises(RuntimeError, match=r"rois\[3, [02]\]"):
        torch.ops.maskrcnn.roi_align_backward(
            gradient, rois, features.shape, SCALE, 2, False, False, False
        )


def test_module_pools_as_the_function():
    features, rois = make_map(), make_rois()
    pooler = ROIAlign((7, 3), SCALE, 2, True)
    assert torch.equal(pooler(features, rois), roi_align(features, rois, (7, 3), SCALE, 2, True))
    assert "output_size=(7, 3)" in repr(pooler)


IN_ANOTHER_PROCESS = """
import sys, torch
from maskrcnn_lib.layers import roi_align
data = torch.load(sys.argv[1])
results = []
for features in data["features"]:
    features.requires_grad_()
    pooled = roi_align(features, data["rois"], 7, 0.25, 0, True)
    pooled.backward(torch.ones_like(pooled))
    results += [pooled.detach(), features.grad]
torch.save(results, sys.argv[2])
"""


@needs_ops
@pytest.mark.parametrize("simd", ["baseline", "avx2"])
def test_narrower_vectors_agree(simd, tmp_path):
    """The instructions are chosen once per process, hence another process."""
    features = [
        make_map((2, 150, 21, 34), dtype, layout)
        for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16)
        for layout in LAYOUTS
    ]
    rois = make_rois(dtype=torch.float32)
    torch.save({"features": features, "rois": rois}, tmp_path / "in")
    subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, tmp_path / "in", tmp_path / "out"],
        env={**os.environ, "MASKRCNN_SIMD": simd},
        check=True,
    )
    results = iter(torch.load(tmp_path / "out"))
    for example in features:
        example.requires_grad_()
        pooled = roi_align(example, rois, 7, SCALE, 0, True)
        pooled.backward(torch.ones_like(pooled))
        # Fused and separate multiplication and addition differ by a rounding per term.
        close = {"rtol": torch.finfo(example.dtype).eps, "atol": 1e-4}
        torch.testing.assert_close(next(results), pooled.detach(), **close)
        torch.testing.assert_close(next(results), example.grad, **close)
