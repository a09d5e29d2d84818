"""Pasting of masks against torchvision, detectron2's formulation and pycocotools."""

import importlib

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import paste_masks_in_image

from maskrcnn_lib.layers import masks_to_rle, paste_masks
from maskrcnn_lib.layers._library import ops_available

needs_ops = pytest.mark.skipif(not ops_available(), reason="the compiled operators are not built")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
conventions = pytest.mark.parametrize("aligned", [False, True])
# Different orders of the same float32 operations move a value by some 1e-6; the issue is a pixel
# whose value lies this close to the threshold.
NEAR_THRESHOLD = 1e-4


def without_ops(monkeypatch):
    module = importlib.import_module("maskrcnn_lib.layers.paste_masks")
    monkeypatch.setattr(module, "_compiled", lambda masks: False)


def random_masks(n, size, generator):
    """Smooth blobs with saturated parts, (n, size, size), as mask heads give."""
    coarse = torch.randn(n, 1, 5, 5, generator=generator) * 4
    logits = F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
    return logits.sigmoid()[:, 0]


def random_boxes(n, height, width, generator):
    """Inside, across and beyond the border; tiny, huge, without area and turned inside out."""
    scale = torch.tensor([width, height])
    centre = (torch.rand(n, 2, generator=generator) * 1.6 - 0.3) * scale
    extent = torch.rand(n, 2, generator=generator) ** 3 * 2.5 * scale
    boxes = torch.cat([centre - extent / 2, centre + extent / 2], dim=1)
    boxes[0::11, 2:] = boxes[0::11, :2] + torch.rand(len(boxes[0::11]), 2, generator=generator)
    boxes[1::11, 2] = boxes[1::11, 0]
    boxes[2::11] = boxes[2::11].round()
    boxes[3::11] = boxes[3::11, [2, 3, 0, 1]]
    boxes[4::11] *= 1000
    boxes[5::11, :2] = 0
    boxes[5::11, 2:] = scale.float()
    return boxes


def random_problem(seed, n=33):
    generator = torch.Generator().manual_seed(seed)
    size = (28, 14, 1, 2, 28, 56)[seed % 6]
    height, width = ((61, 83), (40, 17), (1, 1), (90, 3), (2, 70))[seed % 5]
    masks = random_masks(n, size, generator)
    return masks, random_boxes(n, height, width, generator), (height, width)


def encode(bitmaps):
    columns = np.asfortranarray(bitmaps.permute(1, 2, 0).numpy().astype(np.uint8))
    return coco_mask.encode(columns)


@needs_ops
@conventions
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_operator_gives_the_bits_of_the_definition(dtype, aligned, monkeypatch):
    problems = [random_problem(seed) for seed in range(12)]
    problems = [(masks.to(dtype), boxes.to(dtype), size) for masks, boxes, size in problems]
    thresholds = [0.5, 0.2, 0.0]
    answers = [[paste_masks(*p, t, aligned=aligned) for t in thresholds] for p in problems]
    assert all(bitmaps[0].any() for bitmaps in answers)
    without_ops(monkeypatch)
    for problem, bitmaps in zip(problems, answers, strict=True):
        for threshold, bitmap in zip(thresholds, bitmaps, strict=True):
            expected = paste_masks(*problem, threshold, aligned=aligned)
            assert torch.equal(bitmap, expected)


@conventions
def test_run_lengths_equal_encoded_bitmaps_byte_for_byte(aligned):
    for seed in range(60):
        masks, boxes, size = random_problem(seed)
        expected = encode(paste_masks(masks, boxes, size, aligned=aligned))
        assert masks_to_rle(masks, boxes, size, aligned=aligned) == expected


@conventions
def test_noise_at_the_threshold_is_encoded_exactly(aligned):
    """Plateaus at the threshold and many crossings: whatever the rounding, both outputs agree."""
    generator = torch.Generator().manual_seed(0)
    for size in (7, 28):
        masks = torch.randint(0, 5, (60, size, size), generator=generator) / 4
        boxes = random_boxes(60, 150, 200, generator)
        for threshold in (0.25, 0.5, 0.0):
            bitmaps = paste_masks(masks, boxes, (150, 200), threshold, aligned=aligned)
            runs = masks_to_rle(masks, boxes, (150, 200), threshold, aligned=aligned)
            assert runs == encode(bitmaps)


@conventions
def test_encoding_without_the_operator_is_the_same(aligned, monkeypatch):
    problems = [random_problem(seed, n=11) for seed in range(10)]
    answers = [masks_to_rle(*problem, aligned=aligned) for problem in problems]
    without_ops(monkeypatch)
    for problem, answer in zip(problems, answers, strict=True):
        assert masks_to_rle(*problem, aligned=aligned) == answer


def test_integer_convention_is_torchvisions():
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        masks = random_masks(20, 28, generator)
        corner = torch.rand(20, 2, generator=generator) * torch.tensor([180.0, 120.0])
        extent = torch.rand(20, 2, generator=generator) * 150
        boxes = torch.cat([corner, corner + extent], dim=1)
        soft = paste_masks_in_image(masks[:, None], boxes, (133, 201))[:, 0]
        clear = (soft - 0.5).abs() > NEAR_THRESHOLD
        bitmaps = paste_masks(masks, boxes, (133, 201))
        assert torch.equal(bitmaps[clear], (soft > 0.5)[clear])
        assert clear.float().mean() > 0.999


def detectron2_paste(masks, boxes, height, width):
    """Values of detectron2's paste: the mask sampled at the centres of the image's pixels."""
    x0, y0, x1, y1 = (edge[:, None] for edge in boxes.unbind(dim=1))
    x = (torch.arange(width) + 0.5 - x0) / (x1 - x0) * 2 - 1  # (N, width)
    y = (torch.arange(height) + 0.5 - y0) / (y1 - y0) * 2 - 1
    n = len(boxes)
    grid = torch.stack(
        [x[:, None].expand(n, height, width), y[:, :, None].expand(n, height, width)], dim=3
    )
    return F.grid_sample(masks[:, None], grid.to(masks.dtype), align_corners=False)[:, 0]


def test_pixel_centre_convention_is_detectron2s():
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        masks = random_masks(20, 28, generator)
        corner = torch.rand(20, 2, generator=generator) * torch.tensor([180.0, 120.0]) - 20
        extent = torch.rand(20, 2, generator=generator) * 150 + 0.5
        boxes = torch.cat([corner, corner + extent], dim=1)
        soft = detectron2_paste(masks, boxes, 133, 201)
        clear = (soft - 0.5).abs() > NEAR_THRESHOLD
        bitmaps = paste_masks(masks, boxes, (133, 201), aligned=True)
        assert torch.equal(bitmaps[clear], (soft >= 0.5)[clear])
        assert clear.float().mean() > 0.999


def test_full_mask_fills_its_box():
    ones = torch.ones(1, 28, 28)
    inside = paste_masks(ones, torch.tensor([[3.0, 2, 9, 7]]), (10, 12), aligned=True)[0]
    assert inside.nonzero().min(dim=0).values.tolist() == [2, 3]
    assert inside.nonzero().max(dim=0).values.tolist() == [6, 8]
    assert inside.sum() == 5 * 6


@conventions
def test_object_that_fills_the_image_is_one_run(aligned):
    ones = torch.ones(1, 28, 28)
    boxes = torch.tensor([[-50.0, -50, 70, 60]])
    (encoded,) = masks_to_rle(ones, boxes, (20, 30), aligned=aligned)
    bitmap = np.asfortranarray(np.ones((20, 30), np.uint8))
    assert encoded == coco_mask.encode(bitmap)
    assert coco_mask.area(encoded) == 600


@conventions
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single_precision(dtype, aligned):
    masks, boxes, size = random_problem(0)
    masks = masks.to(dtype)
    expected = paste_masks(masks.float(), boxes, size, aligned=aligned)
    assert torch.equal(paste_masks(masks, boxes, size, aligned=aligned), expected)
    assert masks_to_rle(masks, boxes, size, aligned=aligned) == encode(expected)
    rounded = boxes.clamp(-1000, 1000).to(dtype)
    expected = paste_masks(masks.float(), rounded.float(), size, aligned=aligned)
    assert torch.equal(paste_masks(masks, rounded, size, aligned=aligned), expected)


@conventions
def test_layout_and_channel_dimension_do_not_matter(aligned):
    masks, boxes, size = random_problem(0)
    expected = paste_masks(masks, boxes, size, aligned=aligned)
    strided = masks.transpose(1, 2).contiguous().transpose(1, 2)[:, None]
    assert torch.equal(
        paste_masks(strided, boxes.t().contiguous().t(), size, aligned=aligned), expected
    )


@pytest.mark.parametrize("compiled", [True, False])
def test_no_masks_and_images_without_pixels(compiled, monkeypatch):
    if not compiled:
        without_ops(monkeypatch)
    none = (torch.zeros(0, 28, 28), torch.zeros(0, 4))
    assert paste_masks(*none, (5, 7)).shape == (0, 5, 7)
    assert masks_to_rle(*none, (5, 7)) == []
    one = (torch.ones(1, 28, 28), torch.tensor([[0.0, 0, 5, 5]]))
    for aligned in (False, True):
        for size in ((0, 7), (5, 0), (0, 0)):
            assert paste_masks(*one, size, aligned=aligned).shape == (1, *size)
            expected = encode(torch.zeros(1, *size))
            assert masks_to_rle(*one, size, aligned=aligned) == expected


@needs_ops
def test_positions_beyond_32_bits_are_counted():
    side = 60_000  # 3.6e9 pixels, of which no bitmap is made
    boxes = torch.tensor([[side - 40.0, side - 30.0, side, side]])
    (encoded,) = masks_to_rle(torch.ones(1, 28, 28), boxes, (side, side), aligned=True)
    assert coco_mask.area(encoded) == 40 * 30
    assert coco_mask.toBbox(encoded).tolist() == [side - 40, side - 30, 40, 30]


@needs_ops
def test_values_that_are_not_numbers_do_not_belong_to_the_object(monkeypatch):
    masks, boxes, size = random_problem(0)
    masks[:, 10:14, 8:20] = torch.nan
    masks[:, 20, 20] = torch.inf
    bitmaps = [paste_masks(masks, boxes, size, aligned=aligned) for aligned in (False, True)]
    for aligned, bitmap in zip((False, True), bitmaps, strict=True):
        assert masks_to_rle(masks, boxes, size, aligned=aligned) == encode(bitmap)
    without_ops(monkeypatch)
    for aligned, bitmap in zip((False, True), bitmaps, strict=True):
        assert torch.equal(paste_masks(masks, boxes, size, aligned=aligned), bitmap)


@pytest.mark.parametrize("function", [paste_masks, masks_to_rle])
def test_wrong_input_raises_and_names_the_argument(function):
    masks, boxes, size = random_problem(0)
    broken = boxes.clone()
    broken[4, 1] = torch.nan
    with pytest.raises(ValueError, match="boxes must be finite, but box 4 is"):
        function(masks, broken, size)
    with pytest.raises(ValueError, match="masks must have shape"):
        function(masks[:, :20], boxes, size)
    with pytest.raises(ValueError, match="masks must have shape"):
        function(masks[:, None].expand(-1, 2, -1, -1), boxes, size)
    with pytest.raises(ValueError, match="boxes must have shape"):
        function(masks, boxes[:5], size)
    with pytest.raises(ValueError, match="image_size must not be negative"):
        function(masks, boxes, (-1, 5))
    with pytest.raises(ValueError, match="threshold must be finite"):
        function(masks, boxes, size, float("nan"))
    with pytest.raises(TypeError, match="masks must be floating point"):
        function(masks > 0.5, boxes, size)
    with pytest.raises(TypeError, match="boxes must be floating point"):
        function(masks, boxes.long(), size)
    with pytest.raises(ValueError, match="boxes must be on the device of masks"):
        function(masks, boxes.to("meta"), size)


@needs_ops
def test_operators_called_directly_refuse_wrong_input():
    masks, boxes, _ = random_problem(0)
    ops = torch.ops.maskrcnn
    runs, offsets = torch.tensor([3, 4, 5]), torch.tensor([0, 3])
    wrong_calls = {
        "masks must have": lambda: ops.paste_masks(masks[0], boxes, 5, 5, 0.5, True),
        "masks must be": lambda: ops.paste_masks(masks.long(), boxes, 5, 5, 0.5, True),
        "boxes must have": lambda: ops.masks_to_rle(masks, boxes[:, :3], 5, 5, 0.5, True),
        "boxes must be": lambda: ops.masks_to_rle(masks, boxes / 0, 5, 5, 0.5, True),
        "image_size must": lambda: ops.masks_to_rle(masks, boxes, 5, -5, 0.5, True),
        "image_size is too": lambda: ops.paste_masks(masks, boxes, 2**40, 2**40, 0.5, True),
        "threshold must": lambda: ops.paste_masks(masks, boxes, 5, 5, float("inf"), True),
        "runs must be": lambda: ops.compress_rle(runs.int(), offsets),
        "runs must not": lambda: ops.compress_rle(-runs, offsets),
        "offsets must be": lambda: ops.compress_rle(runs, offsets[:0]),
        "offsets must ascend": lambda: ops.compress_rle(runs, torch.tensor([0, 9, 3])),
    }
    for message, call in wrong_calls.items():
        with pytest.raises(RuntimeError, match=message):
            call()


@needs_ops
@conventions
def test_operators_keep_torch_library_rules(aligned):
    masks, boxes, (height, width) = random_problem(0, n=5)
    ops = torch.ops.maskrcnn
    arguments = (masks, boxes, height, width, 0.5, aligned)
    torch.library.opcheck(ops.paste_masks.default, arguments)
    torch.library.opcheck(ops.masks_to_rle.default, arguments)
    torch.library.opcheck(ops.compress_rle.default, ops.masks_to_rle(*arguments))


@needs_ops
def test_paste_compiles_into_one_graph():
    masks, boxes, size = random_problem(0)

    def area(masks, boxes):
        return paste_masks(masks, boxes, size).sum(dim=(1, 2))

    compiled = torch.compile(area, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(masks, boxes), area(masks, boxes))


@pytest.mark.gpu
@needs_gpu
@conventions
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_cuda_gives_the_bits_of_the_cpu(dtype, aligned):
    for seed in range(30):
        masks, boxes, size = random_problem(seed)
        masks = masks.to(dtype)
        on_gpu = (masks.cuda(), boxes.cuda(), size)
        expected = paste_masks(masks, boxes, size, aligned=aligned)
        assert torch.equal(paste_masks(*on_gpu, aligned=aligned).cpu(), expected)
        assert masks_to_rle(*on_gpu, aligned=aligned) == encode(expected)


@pytest.mark.gpu
@needs_gpu
def test_cuda_paste_does_not_synchronise():
    masks, boxes, size = random_problem(0)
    on_gpu = (masks.cuda(), boxes.cuda())
    torch.cuda.set_sync_debug_mode("error")
    try:
        bitmaps = paste_masks(*on_gpu, size)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(bitmaps.cpu(), paste_masks(masks, boxes, size))


@pytest.mark.gpu
@needs_gpu
def test_cuda_counts_positions_beyond_32_bits():
    side = 60_000
    boxes = torch.tensor([[side - 40.0, side - 30.0, side, side]])
    masks = torch.ones(1, 28, 28)
    on_cpu = masks_to_rle(masks, boxes, (side, side), aligned=True)
    assert masks_to_rle(masks.cuda(), boxes.cuda(), (side, side), aligned=True) == on_cpu
