"""The highest place of heat maps against torchvision, OpenCV and the definition."""

import importlib

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import heatmaps_to_keypoints

from maskrcnn_lib.layers import heat_map_peaks
from maskrcnn_lib.layers._library import ops_available

needs_ops = pytest.mark.skipif(not ops_available(), reason="the compiled operators are not built")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
# Sixteen products in another order move a value of about 10 by less than this.
ROUNDING = 2e-5


def without_ops(monkeypatch):
    module = importlib.import_module("maskrcnn_lib.layers.heat_map_peaks")
    monkeypatch.setattr(module, "ops_available", lambda device: False)


def random_problem(seed, n=7, points=3, noise=0.3):
    """Maps with a few hills and noise; boxes smaller than a pixel up to much larger than a map."""
    generator = torch.Generator().manual_seed(seed)
    size = (56, 24, 1, 2, 28, 14)[seed % 6]
    hills = torch.randn(n * points, 1, 5, 5, generator=generator) * 4
    maps = F.interpolate(hills, size=(size, size), mode="bicubic").view(n, points, size, size)
    maps = maps + noise * torch.randn(maps.shape, generator=generator)
    corner = torch.rand(n, 2, generator=generator) * 300 - 50
    extent = torch.rand(n, 2, generator=generator) ** 3 * 250
    extent[0] = torch.tensor([0.0, -3.0])
    extent[1] = extent[1].round()
    return maps, torch.cat((corner, corner + extent), dim=1)


def resized(maps, box):
    """(K, height, width) on the pixels of the box."""
    width, height = (box[2:] - box[:2]).clamp(min=1).ceil().long().tolist()
    return F.interpolate(maps[None], (height, width), mode="bicubic")[0]


def assert_peaks_of(maps, boxes, peaks):
    """The values are the highest ones, and lie where the peaks say; equal heights are free."""
    for of_box, box, found in zip(maps, boxes, peaks, strict=True):
        values = resized(of_box, box)
        side = (box[2:] - box[:2]).clamp(min=1)
        index = (found[:, :2] - box[:2]) / (side / side.ceil()) - 0.5
        column, row = index.round().long().unbind(1)
        torch.testing.assert_close(index, index.round(), rtol=0, atol=2e-3)
        highest = values.flatten(1).amax(dim=1)
        assert (highest - found[:, 2]).abs().max() < ROUNDING
        at = values[torch.arange(len(of_box)), row, column]
        assert (at - found[:, 2]).abs().max() < ROUNDING


@pytest.mark.parametrize("seed", range(12))
def test_the_peak_is_the_highest_pixel_of_the_resized_map(seed):
    maps, boxes = random_problem(seed)
    assert_peaks_of(maps, boxes, heat_map_peaks(maps, boxes))


@pytest.mark.parametrize("seed", range(6))
def test_noise_everywhere_hides_no_peak(seed):
    """Rows are skipped where the map is low; of mere noise hardly one can be."""
    maps, boxes = random_problem(seed, noise=50.0)
    maps /= 10
    assert_peaks_of(maps, boxes, heat_map_peaks(maps, boxes))


@pytest.mark.parametrize("seed", [0, 1, 3, 4, 5])  # of a map of one cell all pixels are equal
def test_places_and_values_are_torchvisions(seed):
    maps, boxes = random_problem(seed, n=20)
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2])
    places, values = heatmaps_to_keypoints(maps, boxes)
    peaks = heat_map_peaks(maps, boxes)
    torch.testing.assert_close(peaks[..., :2], places[..., :2].float(), rtol=0, atol=1e-3)
    torch.testing.assert_close(peaks[..., 2], values, rtol=0, atol=ROUNDING)


def test_places_are_those_of_opencvs_cubic_resize():
    """Detectron and maskrcnn-benchmark resize with OpenCV."""
    import cv2

    maps, boxes = random_problem(0, n=12)
    peaks = heat_map_peaks(maps, boxes)
    for of_box, box, found in zip(maps.numpy(), boxes.numpy(), peaks.numpy(), strict=True):
        sides = np.maximum(box[2:] - box[:2], 1)
        width, height = np.ceil(sides).astype(int).tolist()
        image = cv2.resize(
            of_box.transpose(1, 2, 0), (width, height), interpolation=cv2.INTER_CUBIC
        ).reshape(height, width, len(of_box))
        for point, (x, y, value) in enumerate(found):
            row, column = np.unravel_index(image[..., point].argmax(), (height, width))
            assert value == pytest.approx(image[row, column, point], abs=ROUNDING)
            assert x == pytest.approx(box[0] + (column + 0.5) * sides[0] / width, abs=1e-3)
            assert y == pytest.approx(box[1] + (row + 0.5) * sides[1] / height, abs=1e-3)


def test_a_map_of_the_boxs_size_keeps_its_values():
    maps = torch.zeros(1, 1, 8, 8)
    maps[0, 0, 5, 2] = 3.0
    (((x, y, value),),) = heat_map_peaks(maps, torch.tensor([[10.0, 20.0, 18.0, 28.0]])).tolist()
    assert (x, y, value) == (12.5, 25.5, 3.0)


def test_of_equal_values_the_first_in_reading_order_counts(monkeypatch):
    maps, box = torch.zeros(1, 2, 4, 4), torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    maps[0, 1, 1, 2] = maps[0, 1, 3, 0] = 1.0
    expected = [[0.5, 0.5, 0.0], [2.5, 1.5, 1.0]]
    assert heat_map_peaks(maps, box).tolist() == [expected]
    without_ops(monkeypatch)
    assert heat_map_peaks(maps, box).tolist() == [expected]


def test_without_the_operator_the_answer_is_the_same(monkeypatch):
    problems = [random_problem(seed) for seed in (0, 1, 3, 4, 5)]
    answers = [heat_map_peaks(*problem) for problem in problems]
    without_ops(monkeypatch)
    for problem, answer in zip(problems, answers, strict=True):
        torch.testing.assert_close(heat_map_peaks(*problem), answer, rtol=0, atol=1e-3)


@needs_ops
def test_double_precision_and_layout_are_followed():
    maps, boxes = random_problem(0)
    expected = heat_map_peaks(maps.double(), boxes.double())
    assert expected.dtype == torch.float64
    last = maps.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(heat_map_peaks(last, boxes), heat_map_peaks(maps, boxes))
    torch.testing.assert_close(heat_map_peaks(maps, boxes), expected.float(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single_precision(dtype):
    maps, boxes = random_problem(0)
    maps = maps.to(dtype)
    assert torch.equal(heat_map_peaks(maps, boxes), heat_map_peaks(maps.float(), boxes))


@pytest.mark.parametrize("compiled", [True, False])
def test_no_boxes_and_no_points(compiled, monkeypatch):
    if not compiled:
        without_ops(monkeypatch)
    assert heat_map_peaks(torch.zeros(0, 17, 56, 56), torch.zeros(0, 4)).shape == (0, 17, 3)
    assert heat_map_peaks(torch.zeros(2, 0, 56, 56), torch.zeros(2, 4)).shape == (2, 0, 3)


def test_wrong_input_raises_and_names_the_argument():
    maps, boxes = random_problem(0)
    broken = boxes.clone()
    broken[4, 1] = torch.nan
    with pytest.raises(ValueError, match=r"boxes must be finite .* box 4 is"):
        heat_map_peaks(maps, broken)
    broken[4] = torch.tensor([0.0, 0.0, 1e6, 1.0])
    with pytest.raises(ValueError, match="at most 65536 pixels"):
        heat_map_peaks(maps, broken)
    with pytest.raises(ValueError, match="heat_maps must have shape"):
        heat_map_peaks(maps[..., :5], boxes)
    with pytest.raises(ValueError, match="boxes must have shape"):
        heat_map_peaks(maps, boxes[:3])
    with pytest.raises(TypeError, match="heat_maps must be floating point"):
        heat_map_peaks(maps.long(), boxes)
    with pytest.raises(ValueError, match="boxes must be on the device of heat_maps"):
        heat_map_peaks(maps, boxes.to("meta"))


@needs_ops
def test_operator_called_directly_refuses_wrong_input():
    maps, boxes = random_problem(0)
    operator = torch.ops.maskrcnn.heat_map_peaks
    for message, arguments in {
        "heat_maps must have": (maps[0], boxes),
        "heat_maps must be": (maps.long(), boxes),
        "boxes must have": (maps, boxes[:, :3]),
        "boxes must be finite": (maps, boxes / 0),
        "boxes must be at most": (maps, boxes * 1e6),
    }.items():
        with pytest.raises(RuntimeError, match=message):
            operator(*arguments)


@needs_ops
def test_operator_keeps_torch_library_rules():
    torch.library.opcheck(torch.ops.maskrcnn.heat_map_peaks.default, random_problem(0))
    torch.library.opcheck(
        torch.ops.maskrcnn.heat_map_peaks.default, tuple(t.bfloat16() for t in random_problem(0))
    )


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_cuda_gives_the_bits_of_the_cpu(dtype):
    for seed in range(12):
        maps, boxes = random_problem(seed)
        maps = maps.to(dtype)
        on_gpu = maps.cuda(), boxes.cuda()
        torch.cuda.set_sync_debug_mode("error")
        try:
            peaks = heat_map_peaks(*on_gpu)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert torch.equal(peaks.cpu(), heat_map_peaks(maps, boxes))
