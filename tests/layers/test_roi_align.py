"""RoIAlign against torchvision, against arithmetic, and against its own reference."""

import importlib

import pytest
import torch
from torch import Tensor

from maskrcnn_lib.layers import ROIAlign, roi_align

from .roi_samples import LAYOUTS, SCALE, TOLERANCE, make_map, make_rois, needs_ops, with_gradient

module = importlib.import_module("maskrcnn_lib.layers.roi_align")


@pytest.fixture(params=[pytest.param("compiled", marks=needs_ops), "reference"])
def implementation(request, monkeypatch) -> str:
    if request.param == "reference":
        monkeypatch.setattr(module, "ops_available", lambda device: False)
    return request.param


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


def test_autocast_leaves_the_type_alone(implementation):
    features = make_map(dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = roi_align(features, make_rois(dtype=torch.float32), 7, SCALE, 2)
    assert result.dtype == torch.bfloat16


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
