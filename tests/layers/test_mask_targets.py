"""Mask targets against pycocotools, torch's interpolation and SegmentationMask."""

import json

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch.nn import functional as F

from maskrcnn_lib.layers import bitmap_mask_targets, polygon_mask_targets
from maskrcnn_lib.structures.flat_polygons import FlatPolygons
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

from .mask_samples import (
    SIZES,
    both_ways,
    flatten,
    needs_ops,
    random_bitmaps,
    random_boxes,
    random_problem,
    without_ops,
)

# Another order of the same float32 operations moves an interpolated value by some 1e-7.
NEAR_HALF = 1e-5


def coco_targets(flat, boxes, size):
    """What pycocotools gives for the polygons in the grids of their boxes: instance i in box i."""
    points, starts, bounds = (part.numpy() for part in flat)
    result = []
    for i, box in enumerate(boxes.double().numpy()):
        scale = size / np.maximum(box[2:] - box[:2], 1)
        polygons = [
            ((points[starts[p] : starts[p + 1]] - box[:2]) * scale).reshape(-1).tolist()
            for p in range(bounds[i], bounds[i + 1])
        ]
        result.append(coco_mask.merge(coco_mask.frPyObjects(polygons, size, size)))
    return torch.from_numpy(coco_mask.decode(result)).permute(2, 0, 1) > 0


def test_ten_thousand_polygons_equal_pycocotools_pixel_for_pixel():
    polygons = drawn = 0
    for size in SIZES:
        flat, boxes, instances = random_problem(0, 1000, size)
        targets = polygon_mask_targets(*flat, boxes, instances, size)
        assert torch.equal(targets, coco_targets(flat, boxes, size))
        polygons += len(flat.polygon_offsets) - 1
        drawn += int((targets.any(dim=(1, 2)) & ~targets.all(dim=(1, 2))).sum())
    assert polygons > 10_000
    assert drawn > 2000


@pytest.mark.data
def test_coco_objects_equal_pycocotools_pixel_for_pixel(test_data):
    file = test_data / "coco_mini" / "annotations" / "instances_val2017.json"
    annotations = json.loads(file.read_text())["annotations"]
    objects = [a for a in annotations if isinstance(a["segmentation"], list)]
    masks = SegmentationMask([a["segmentation"] for a in objects], (640, 640))
    x, y, width, height = torch.tensor([a["bbox"] for a in objects]).unbind(dim=1)
    extent = torch.stack([width, height, width, height], dim=1)
    jitter = torch.randn(extent.shape, generator=torch.Generator().manual_seed(0)) * 0.1
    boxes = torch.stack([x, y, x + width, y + height], dim=1) + jitter * extent
    flat = masks.flat_polygons()
    for windows in (boxes, boxes.round()):
        targets = polygon_mask_targets(*flat, windows, torch.arange(len(boxes)), 28)
        assert torch.equal(targets, coco_targets(flat, windows, 28))
        assert targets.any(dim=(1, 2)).float().mean() > 0.99


@needs_ops
def test_polygon_operator_gives_the_bits_of_the_definition(monkeypatch):
    problems = [(*random_problem(1, 48, size), size) for size in SIZES]
    answers = [polygon_mask_targets(*flat, *rois) for flat, *rois in problems]
    without_ops(monkeypatch)
    for (flat, *rois), answer in zip(problems, answers, strict=True):
        assert torch.equal(polygon_mask_targets(*flat, *rois), answer)


@needs_ops
@pytest.mark.parametrize("reach", [1e7, 1e9, 1e12, 1e30])
def test_points_beyond_all_bounds_are_drawn_as_defined(reach, monkeypatch):
    """Further away than pycocotools has numbers for."""
    rng = np.random.default_rng(0)
    polygons = [[rng.normal(size=(7, 2)) * reach] for _ in range(60)]
    flat = flatten([*polygons, [np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * reach]])
    boxes = torch.from_numpy(random_boxes(61, rng))
    answer = polygon_mask_targets(*flat, boxes, torch.arange(61), 28)
    assert answer[-1].all() and answer[:-1].any() and not answer.all()
    without_ops(monkeypatch)
    assert torch.equal(polygon_mask_targets(*flat, boxes, torch.arange(61), 28), answer)


@both_ways
def test_polygon_targets_are_those_of_cropped_and_resized_masks(compiled, monkeypatch):
    if not compiled:
        without_ops(monkeypatch)
    flat, boxes, instances = random_problem(2, 36, 28)
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 2)
    starts, bounds = flat.polygon_offsets.tolist(), flat.instance_offsets.tolist()
    masks = SegmentationMask(
        [
            [flat.points[starts[p] : starts[p + 1]] for p in range(bounds[i], bounds[i + 1])]
            for i in range(36)
        ],
        (600, 600),
    )
    expected = [
        masks[i].crop(box).resize((28, 28)).get_mask_tensor()[0] for i, box in enumerate(boxes)
    ]
    targets = polygon_mask_targets(*masks.flat_polygons(), boxes, instances, 28)
    assert torch.equal(targets, torch.stack(expected))


@both_ways
def test_bitmap_targets_are_those_of_cropped_and_resized_bitmaps(compiled, monkeypatch):
    if not compiled:
        without_ops(monkeypatch)
    clear_cells = 0
    for seed in range(12):
        size = SIZES[seed % len(SIZES)]
        bitmaps, boxes, instances = random_bitmaps(seed, 20)
        height, width = bitmaps.shape[1:]
        masks = SegmentationMask(bitmaps, (width, height), mode="mask")
        targets = bitmap_mask_targets(bitmaps, boxes, instances, size)
        for target, box, instance in zip(targets, boxes, instances, strict=True):
            window = masks[int(instance)].crop(box).get_mask_tensor()[None].float()
            soft = F.interpolate(window, (size, size), mode="bilinear")[0, 0]
            clear = (soft - 0.5).abs() > NEAR_HALF
            assert torch.equal(target[clear], (soft >= 0.5)[clear])
            clear_cells += int(clear.sum())
    assert clear_cells > 0.95 * 12 * 60 * np.mean(np.square(SIZES))


@needs_ops
def test_bitmap_operator_gives_the_bits_of_the_definition(monkeypatch):
    problems = [(*random_bitmaps(seed, 20), SIZES[seed % len(SIZES)]) for seed in range(12)]
    problems[0][1][:5] *= 1e9
    answers = [bitmap_mask_targets(*problem) for problem in problems]
    assert all(answer.any() for answer in answers)
    without_ops(monkeypatch)
    for problem, answer in zip(problems, answers, strict=True):
        assert torch.equal(bitmap_mask_targets(*problem), answer)


def test_whole_pixels_are_copied():
    bitmaps, _, _ = random_bitmaps(0, 3)
    boxes = torch.tensor([[10.0, 20, 38, 48], [9.6, 19.5, 38.4, 48.4]])
    targets = bitmap_mask_targets(bitmaps, boxes, torch.tensor([2, 0]), 28)
    assert torch.equal(targets, bitmaps[[2, 0], 20:48, 10:38])


@both_ways
def test_square_is_drawn_where_it_lies_in_the_box(compiled, monkeypatch):
    if not compiled:
        without_ops(monkeypatch)
    flat = flatten([[np.array([[4.0, 6], [12, 6], [12, 10], [4, 10]])]])
    boxes = torch.tensor([[0.0, 4, 16, 12], [4, 6, 12, 10], [12, 6, 20, 10]])
    targets = polygon_mask_targets(*flat, boxes, torch.zeros(3, dtype=torch.int64), 8)
    expected = torch.zeros(3, 8, 8, dtype=torch.bool)
    expected[0, 2:6, 2:6] = True
    expected[1] = True
    assert torch.equal(targets, expected)


@both_ways
def test_boxes_below_a_pixel_count_as_a_pixel(compiled, monkeypatch):
    if not compiled:
        without_ops(monkeypatch)
    flat = flatten([[np.array([[5.0, 5], [5.5, 5], [5.5, 9], [5, 9]])]])
    bitmaps = torch.zeros(1, 12, 12, dtype=torch.bool)
    bitmaps[0, 5:9, 5] = True
    boxes = torch.tensor([[5.0, 5, 5, 9], [5, 5, 5.25, 9], [5, 5, 6, 9]])
    none = torch.zeros(3, dtype=torch.int64)
    for targets, filled in (
        (polygon_mask_targets(*flat, boxes, none, 14), 7),
        (bitmap_mask_targets(bitmaps, boxes, none, 14), 14),
    ):
        assert (targets == targets[2]).all()
        assert targets[2, :, :filled].all() and not targets[2, :, filled:].any()


@both_ways
def test_rois_without_object_and_objects_without_polygons_are_empty(compiled, monkeypatch):
    if not compiled:
        without_ops(monkeypatch)
    square = np.array([[0.0, 0], [9, 0], [9, 9], [0, 9]])
    flat = flatten([[square], [], [square[:0], square[:1], square[:2], square], [square[:2]]])
    boxes = torch.tensor([[0.0, 0, 9, 9]]).expand(6, 4)
    instances = torch.tensor([-1, 0, 1, 2, 3, -7])
    filled = polygon_mask_targets(*flat, boxes, instances, 5).all(dim=(1, 2))
    assert filled.tolist() == [False, True, False, True, False, False]
    assert not polygon_mask_targets(*flat, boxes, instances, 5)[~filled].any()
    bitmaps = torch.ones(4, 9, 9, dtype=torch.bool)
    bitmaps[[1, 3]] = False
    assert bitmap_mask_targets(bitmaps, boxes, instances, 5).all(dim=(1, 2)).equal(filled)
    assert not bitmap_mask_targets(bitmaps, boxes, instances, 5)[~filled].any()
    nothing, none = FlatPolygons.cat([]), torch.full((6,), -1)
    assert not polygon_mask_targets(*nothing, boxes, none, 5).any()
    assert not bitmap_mask_targets(bitmaps[:0], boxes, none, 5).any()
    assert not bitmap_mask_targets(bitmaps[:, :0], boxes, instances, 5).any()
    assert polygon_mask_targets(*flat, boxes[:0], instances[:0], 5).shape == (0, 5, 5)
    assert bitmap_mask_targets(bitmaps, boxes[:0], instances[:0], 5).shape == (0, 5, 5)


def test_rois_share_instances_in_any_order():
    flat, boxes, instances = random_problem(3, 24, 28)
    order = torch.from_numpy(np.random.default_rng(0).integers(0, 24, 100))
    expected = polygon_mask_targets(*flat, boxes, instances, 28)[order]
    assert torch.equal(polygon_mask_targets(*flat, boxes[order], instances[order], 28), expected)


def test_threads_do_not_change_the_result():
    flat, boxes, instances = random_problem(4, 200, 28)
    bitmaps, windows, owners = random_bitmaps(0, 40)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(
            (
                polygon_mask_targets(*flat, boxes, instances, 28),
                bitmap_mask_targets(bitmaps, windows, owners, 28),
            )
        )
    torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_layout_and_precision_of_boxes_do_not_matter():
    flat, boxes, instances = random_problem(5, 24, 28)
    expected = polygon_mask_targets(*flat, boxes, instances, 28)
    turned = boxes.t().contiguous().t()
    points = flat.points.t().contiguous().t()
    strided = FlatPolygons(points, *flat[1:])
    assert torch.equal(polygon_mask_targets(*strided, turned, instances, 28), expected)
    assert torch.equal(polygon_mask_targets(*flat, boxes.double(), instances, 28), expected)
    half = boxes.bfloat16()
    expected = polygon_mask_targets(*flat, half.double(), instances, 28)
    assert torch.equal(polygon_mask_targets(*flat, half, instances, 28), expected)
    bitmaps, windows, owners = random_bitmaps(0, 10)
    expected = bitmap_mask_targets(bitmaps, windows, owners, 14)
    turned = bitmaps.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(bitmap_mask_targets(turned, windows.double(), owners, 14), expected)
