"""RoIAlign over a pyramid against torchvision's pooler and against one level at a time."""

import importlib

import pytest
import torch
from torch import Tensor

from maskrcnn_lib.layers import multilevel_roi_align, roi_align
from maskrcnn_lib.layers._library import ops_available

needs_ops = pytest.mark.skipif(not ops_available(), reason="the compiled operators are not built")
module = importlib.import_module("maskrcnn_lib.layers.multilevel_roi_align")
LAYOUTS = (torch.contiguous_format, torch.channels_last)
SCALES = (1 / 4, 1 / 8, 1 / 16, 1 / 32)
IMAGE = (256, 352)


@pytest.fixture(params=[pytest.param("compiled", marks=needs_ops), "reference"])
def implementation(request, monkeypatch) -> str:
    if request.param == "reference":
        monkeypatch.setattr(module, "ops_available", lambda device: False)
    return request.param


def make_pyramid(
    channels=6, dtype=torch.float64, layout=torch.contiguous_format, scales=SCALES, image=IMAGE
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(
            2, channels, int(image[0] * s), int(image[1] * s), generator=generator, dtype=dtype
        ).contiguous(memory_format=layout)
        for s in scales
    ]


def make_rois(count=60, dtype=torch.float64) -> Tensor:
    """Boxes of 7 to 400 pixels, so that every level is used."""
    generator = torch.Generator().manual_seed(1)
    centre = torch.rand(count, 2, generator=generator, dtype=dtype) * torch.tensor(IMAGE[::-1])
    size = torch.exp(torch.rand(count, 2, generator=generator, dtype=dtype) * 4 + 2)
    image = torch.arange(count) % 2
    return torch.cat([image[:, None], centre - size / 2, centre + size / 2], dim=1)


def with_gradients(function, features: list[Tensor], *args) -> list[Tensor]:
    """Result and gradients of the maps for a fixed gradient of the result."""
    features = [level.detach().clone().requires_grad_() for level in features]
    result = function(features, *args)
    generator = torch.Generator().manual_seed(2)
    result.backward(torch.randn(result.shape, generator=generator, dtype=result.dtype))
    return [result.detach(), *(level.grad for level in features)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sampling_ratio", [2, 0])
def test_agrees_with_torchvision(implementation, sampling_ratio, layout):
    from torchvision.ops import MultiScaleRoIAlign

    rois = make_rois()
    pooler = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, sampling_ratio)
    order = rois[:, 0].argsort(stable=True)  # torchvision takes boxes image by image

    def pool_with_torchvision(features: list[Tensor]) -> Tensor:
        named = {str(index): level for index, level in enumerate(features)}
        boxes = [rois[rois[:, 0] == image, 1:] for image in range(2)]
        return pooler(named, boxes, [IMAGE, IMAGE])

    def pool(features: list[Tensor]) -> Tensor:
        return multilevel_roi_align(features, rois, SCALES, 7, sampling_ratio)[order]

    results = with_gradients(pool, make_pyramid(layout=layout))
    expected = with_gradients(pool_with_torchvision, make_pyramid())
    torch.testing.assert_close(results, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("width", "height", "level"),
    [
        (1, 1, 0),
        (111, 112, 0),
        (112, 112, 1),
        (223.9, 223.9, 1),
        (224, 224, 2),
        (100, 501.76, 2),
        (447, 448, 2),
        (448, 448, 3),
        (2000, 2000, 3),
        (-5, 10, 0),
        (0, 0, 0),
    ],
)
def test_level_follows_the_size_of_the_box(implementation, width, height, level):
    """Levels 2 to 5 of Lin et al.'s equation 1; the maps here hold their own level."""
    features = [torch.full((1, 1, 700, 700), float(index)) for index in range(4)]
    roi = torch.tensor([[0, 20.0, 20.0, 20.0 + width, 20.0 + height]])
    result = multilevel_roi_align(features, roi, SCALES, 1, 2)
    assert result.item() == level


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_level_is_that_of_the_formula(implementation, dtype):
    """Away from the borders between levels, where rounding decides."""
    rois = make_rois(400, dtype)
    wide, high = rois[:, 3] - rois[:, 1], rois[:, 4] - rois[:, 2]
    for canonical_size, canonical_level in ((224, 4), (50, 3), (100, 2)):
        exact = canonical_level + torch.log2((wide * high).sqrt() / canonical_size + 1e-6)
        clear = (exact - exact.round()).abs() > 1e-4
        expected = exact.floor().clamp(2, 5) - 2
        levels = module.pyramid_levels(rois, SCALES, canonical_size, canonical_level)
        assert torch.equal(levels[clear].to(dtype), expected[clear])
        features = [torch.full((2, 1, 9, 9), float(index), dtype=dtype) for index in range(4)]
        inside = rois.clone()
        inside[:, 1:3] = 1  # within every map, so that the level is what is pooled
        inside[:, 3], inside[:, 4] = 1 + wide, 1 + high
        pooled = multilevel_roi_align(
            features, inside, SCALES, 1, 1, False, canonical_size, canonical_level
        )
        small = clear & (wide < 60) & (high < 60)
        assert small.any()
        kernel_levels = module.pyramid_levels(inside, SCALES, canonical_size, canonical_level)
        assert torch.equal(pooled.flatten()[small].round(), kernel_levels[small].to(dtype))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_level_is_roi_align(implementation, layout):
    level = make_pyramid(layout=layout)[1]
    result = multilevel_roi_align([level], make_rois(), [1 / 8], (7, 5), 0, True)
    expected = roi_align(level, make_rois(), (7, 5), 1 / 8, 0, True)
    assert torch.equal(result, expected) or implementation == "reference"
    torch.testing.assert_close(result, expected)
    assert result.is_contiguous(memory_format=layout)


def test_box_end_offset_moves_samples_and_not_levels(implementation):
    features, rois = make_pyramid(), make_rois()
    moved = rois - torch.tensor([0, 0, 0, 1, 1])
    levels = module.pyramid_levels(rois, SCALES, 224, 4)
    assert not torch.equal(levels, module.pyramid_levels(rois * 1.1, SCALES, 224, 4))
    result = multilevel_roi_align(features, rois, SCALES, 7, 2, box_end_offset=-1.0)
    for index, (level, scale) in enumerate(zip(features, SCALES, strict=True)):
        expected = roi_align(level, moved[levels == index], 7, scale, 2)
        torch.testing.assert_close(result[levels == index], expected)


def test_result_is_in_the_order_of_the_boxes(implementation):
    features, rois = make_pyramid(), make_rois()
    order = torch.randperm(len(rois), generator=torch.Generator().manual_seed(3))
    result = multilevel_roi_align(features, rois, SCALES, 7, 2)
    torch.testing.assert_close(
        multilevel_roi_align(features, rois[order], SCALES, 7, 2), result[order]
    )


def test_levels_of_different_memory_formats_mix(implementation):
    plain, last = make_pyramid(), make_pyramid(layout=torch.channels_last)
    expected = with_gradients(multilevel_roi_align, plain, make_rois(), SCALES, 7, 2)
    for mixed in ([plain[0], last[1], last[2], plain[3]], [last[0], plain[1], last[2], last[3]]):
        results = with_gradients(multilevel_roi_align, mixed, make_rois(), SCALES, 7, 2)
        torch.testing.assert_close(results, expected, rtol=0, atol=1e-11)
        layout = LAYOUTS[mixed[0] is last[0]]
        assert results[0].is_contiguous(memory_format=layout)


def test_levels_without_boxes_and_no_boxes_at_all_give_zero_gradients(implementation):
    features = [level.requires_grad_() for level in make_pyramid()]
    small = torch.tensor([[0, 3.0, 3.0, 30.0, 30.0]], dtype=torch.float64)
    for rois, used in ((small, True), (small[:0], False)):
        pooled = multilevel_roi_align(features, rois, SCALES, 7, 2)
        assert pooled.shape == (len(rois), 6, 7, 7)
        gradients = torch.autograd.grad(pooled.sum(), features)
        assert [bool(gradient.any()) for gradient in gradients] == [used, False, False, False]
        assert all(not gradient[1].any() for gradient in gradients)


def test_half_types_keep_their_type(implementation):
    features = make_pyramid(dtype=torch.float32, layout=torch.channels_last)
    half = [level.bfloat16().requires_grad_() for level in features]
    rois = make_rois(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = multilevel_roi_align(half, rois, SCALES, 7, 2)
    wide = multilevel_roi_align([level.detach().float() for level in half], rois, SCALES, 7, 2)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), wide, rtol=2**-8, atol=1e-6)
    result.sum().backward()
    assert all(level.grad.dtype == torch.bfloat16 for level in half)


@needs_ops
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_first_and_second_order(layout):
    features = make_pyramid(2, layout=layout, scales=(1 / 4, 1 / 8), image=(16, 24))
    features = [level.requires_grad_() for level in features]
    rois = torch.tensor([[0, 1, 2, 20, 22], [1, 0, 0, 3, 4], [1, 3, 3, 30, 23]]).double()

    def pool(*levels: Tensor) -> Tensor:
        return multilevel_roi_align(levels, rois, (1 / 4, 1 / 8), 2, 0, True, 16, 3, 0.5)

    assert torch.autograd.gradcheck(pool, features)
    assert torch.autograd.gradgradcheck(pool, features)


@needs_ops
@pytest.mark.parametrize("layout", LAYOUTS)
def test_results_do_not_depend_on_the_number_of_threads(layout):
    features = make_pyramid(70, torch.float32, layout)
    arguments = (make_rois(200, torch.float32), SCALES, 7, 2)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5, 1):
            torch.set_num_threads(count)
            results.append(with_gradients(multilevel_roi_align, features, *arguments))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


@needs_ops
@pytest.mark.parametrize("layout", LAYOUTS)
def test_operators_pass_opcheck(layout):
    features = make_pyramid(3, torch.float32, layout, (1 / 4, 1 / 8), (32, 40))
    features = [level.requires_grad_() for level in features]
    rois = make_rois(5, torch.float32)
    rule = (0, True, 64.0, 3, -1.0)
    torch.library.opcheck(
        torch.ops.maskrcnn.multilevel_roi_align.default,
        (features, rois, [1 / 4, 1 / 8], 3, 2, *rule),
    )
    gradient = torch.randn(5, 3, 3, 2).contiguous(memory_format=layout).requires_grad_()
    last = layout == torch.channels_last
    torch.library.opcheck(
        torch.ops.maskrcnn.multilevel_roi_align_backward.default,
        (gradient, rois, [2, 3, 8, 10, 4, 5], [1 / 4, 1 / 8], *rule, last, False),
    )


@needs_ops
def test_torch_compile_keeps_one_graph():
    def head(features: list[Tensor], rois: Tensor) -> Tensor:
        return multilevel_roi_align([x.relu() for x in features], rois, SCALES, 7, 2).flatten(1)

    compiled = torch.compile(head, fullgraph=True, backend="aot_eager")
    features = make_pyramid(dtype=torch.float32, layout=torch.channels_last)
    for count in (6, 9):
        rois = make_rois(count, torch.float32)
        expected = with_gradients(head, features, rois)
        torch.testing.assert_close(with_gradients(compiled, features, rois), expected)


BAD_INPUT = {
    "no maps": (dict(features=[], scales=[]), ValueError, "features: "),
    "scales of other levels": (dict(scales=SCALES[:3]), ValueError, "scales: got 3 for 4"),
    "scale of nothing": (dict(scales=(1 / 4, 1 / 8, 0, 1 / 32)), ValueError, r"scales\[2\]: "),
    "more levels than fit": (
        dict(features=make_pyramid() * 3, scales=SCALES * 3),
        ValueError,
        "features: .* 8 ",
    ),
    "other dtype": (
        dict(features=[*make_pyramid()[:3], torch.zeros(2, 6, 8, 11)]),
        TypeError,
        r"features\[3\]",
    ),
    "other channels": (
        dict(features=[*make_pyramid()[:3], make_pyramid(5)[3]]),
        ValueError,
        r"features\[3\]",
    ),
    "no box size": (dict(canonical_size=0), ValueError, "canonical_size: "),
    "image beyond the last": (dict(rois=make_rois() + 1), ValueError, r"rois\[1\]"),
}


@pytest.mark.parametrize("case", list(BAD_INPUT))
def test_bad_input_is_named(implementation, case):
    changes, error, message = BAD_INPUT[case]
    arguments = {
        "features": make_pyramid(),
        "rois": make_rois(),
        "scales": SCALES,
        "output_size": 7,
        "sampling_ratio": 2,
    }
    with pytest.raises(error, match=message):
        multilevel_roi_align(**{**arguments, **changes})
