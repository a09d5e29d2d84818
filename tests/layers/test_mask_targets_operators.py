"""Mask targets as operators: wrong input, torch's rules, compilation, CUDA against the CPU."""

import pytest
import torch

from maskrcnn_lib.layers import bitmap_mask_targets, polygon_mask_targets

from .mask_samples import (
    SIZES,
    both_ways,
    needs_gpu,
    needs_ops,
    random_bitmaps,
    random_problem,
    without_ops,
)


def wrong_polygon_calls():
    flat, boxes, instances = random_problem(0, 12, 14)
    points, starts, bounds = flat
    return {
        "points must have shape": (points[:, :1], starts, bounds, boxes, instances, 14),
        "points must be finite, but point 0 is": (points / 0, starts, bounds, boxes, instances, 14),
        "polygon_offsets must ascend": (points, starts.flip(0), bounds, boxes, instances, 14),
        "polygon_offsets must ascend from 0": (points, starts - 1, bounds, boxes, instances, 14),
        "instance_offsets must ascend": (points, starts, bounds + 1, boxes, instances, 14),
        "instance_offsets must be one-dim": (points, starts, bounds[:0], boxes, instances, 14),
        "instances must be below 12": (*flat, boxes, instances + 1, 14),
        "instances must have shape": (*flat, boxes, instances[:3], 14),
        "boxes must have shape": (*flat, boxes[:, :3], instances, 14),
        "boxes must be finite, but box 0 is": (*flat, boxes * torch.inf, instances, 14),
        "size must be from 1 to 256, but is 0": (*flat, boxes, instances, 0),
        "size must be from 1 to 256, but is 257": (*flat, boxes, instances, 257),
        "instances must be on the device": (*flat, boxes, instances.to("meta"), 14),
    }


@both_ways
def test_wrong_polygon_input_raises_and_names_the_argument(compiled, monkeypatch):
    if not compiled:
        without_ops(monkeypatch)
    for message, arguments in wrong_polygon_calls().items():
        with pytest.raises(ValueError, match=message):
            polygon_mask_targets(*arguments)
    flat, boxes, instances = random_problem(0, 12, 14)
    with pytest.raises(TypeError, match=r"points must be torch.float64"):
        polygon_mask_targets(flat.points.float(), *flat[1:], boxes, instances, 14)
    with pytest.raises(TypeError, match=r"instance_offsets must be torch.int64"):
        polygon_mask_targets(*flat[:2], flat[2].int(), boxes, instances, 14)
    with pytest.raises(TypeError, match="boxes must be floating point"):
        polygon_mask_targets(*flat, boxes.long(), instances, 14)
    with pytest.raises(TypeError, match=r"instances must be torch.int64"):
        polygon_mask_targets(*flat, boxes, instances.int(), 14)
    with pytest.raises(TypeError, match=r"points must be a torch.Tensor"):
        polygon_mask_targets(flat.points.numpy(), *flat[1:], boxes, instances, 14)


@both_ways
def test_wrong_bitmap_input_raises_and_names_the_argument(compiled, monkeypatch):
    if not compiled:
        without_ops(monkeypatch)
    bitmaps, boxes, instances = random_bitmaps(0, 4)
    wrong_values = {
        "bitmaps must have shape": (bitmaps[0], boxes, instances, 14),
        "instances must be below 4": (bitmaps, boxes, instances + 4, 14),
        "boxes must be finite": (bitmaps, boxes / 0, instances, 14),
        "size must be": (bitmaps, boxes, instances, 300),
        "boxes must be on the device": (bitmaps, boxes.to("meta"), instances, 14),
    }
    for message, arguments in wrong_values.items():
        with pytest.raises(ValueError, match=message):
            bitmap_mask_targets(*arguments)
    with pytest.raises(TypeError, match=r"bitmaps must be torch.bool"):
        bitmap_mask_targets(bitmaps.float(), boxes, instances, 14)


@needs_ops
def test_operators_called_directly_refuse_wrong_input():
    for arguments in wrong_polygon_calls().values():
        if arguments[4].device.type == "cpu":
            with pytest.raises(RuntimeError, match=r"must (be|have|ascend)"):
                torch.ops.maskrcnn.polygon_mask_targets(*arguments)
    bitmaps, boxes, instances = random_bitmaps(0, 4)
    operator = torch.ops.maskrcnn.bitmap_mask_targets
    wrong_calls = {
        "bitmaps must be": (bitmaps.float(), boxes, instances, 14),
        "boxes must be finite": (bitmaps, boxes * torch.nan, instances, 14),
        "instances must be below": (bitmaps[:1], boxes, instances, 14),
        "instances must be int64": (bitmaps, boxes, instances.int(), 14),
        "size must be": (bitmaps, boxes, instances, 2**40),
    }
    for message, arguments in wrong_calls.items():
        with pytest.raises(RuntimeError, match=message):
            operator(*arguments)


@needs_ops
def test_operators_keep_torch_library_rules():
    flat, boxes, instances = random_problem(0, 12, 14)
    ops = torch.ops.maskrcnn
    torch.library.opcheck(ops.polygon_mask_targets.default, (*flat, boxes, instances, 14))
    torch.library.opcheck(ops.bitmap_mask_targets.default, (*random_bitmaps(0, 4), 14))


@needs_ops
def test_targets_compile_into_one_graph():
    flat, boxes, instances = random_problem(0, 12, 14)

    def area(points, polygon_offsets, instance_offsets, boxes, instances):
        flat = (points, polygon_offsets, instance_offsets)
        return polygon_mask_targets(*flat, boxes, instances, 14).sum(dim=(1, 2))

    compiled = torch.compile(area, fullgraph=True, backend="aot_eager")
    arguments = (*flat, boxes, instances)
    assert torch.equal(compiled(*arguments), area(*arguments))


@pytest.mark.gpu
@needs_gpu
def test_cuda_gives_the_bits_of_the_cpu():
    for size in (*SIZES, 256):
        flat, boxes, instances = random_problem(6, 600, size)
        instances[::5] = -1
        expected = polygon_mask_targets(*flat, boxes, instances, size)
        on_gpu = (*flat.to("cuda"), boxes.cuda(), instances.cuda())
        assert torch.equal(polygon_mask_targets(*on_gpu, size).cpu(), expected)
        bitmaps, windows, owners = random_bitmaps(size, 40)
        owners[::5] = -1
        expected = bitmap_mask_targets(bitmaps, windows, owners, size)
        on_gpu = (bitmaps.cuda(), windows.cuda(), owners.cuda())
        assert torch.equal(bitmap_mask_targets(*on_gpu, size).cpu(), expected)


@pytest.mark.gpu
@needs_gpu
def test_cuda_targets_do_not_synchronise():
    flat, boxes, instances = random_problem(7, 24, 28)
    bitmaps, windows, owners = random_bitmaps(0, 8)
    polygons = (*flat.to("cuda"), boxes.cuda(), instances.cuda())
    crops = (bitmaps.cuda(), windows.cuda(), owners.cuda())
    torch.cuda.set_sync_debug_mode("error")
    try:
        drawn, cut = polygon_mask_targets(*polygons, 28), bitmap_mask_targets(*crops, 28)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(drawn.cpu(), polygon_mask_targets(*flat, boxes, instances, 28))
    assert torch.equal(cut.cpu(), bitmap_mask_targets(bitmaps, windows, owners, 28))


@pytest.mark.gpu
@needs_gpu
def test_cuda_draws_nothing_for_instances_that_do_not_exist():
    flat, boxes, instances = random_problem(8, 24, 28)
    beyond = (instances + 24).cuda()
    assert not polygon_mask_targets(*flat.to("cuda"), boxes.cuda(), beyond, 28).any()
    bitmaps, windows, owners = random_bitmaps(0, 8)
    targets = bitmap_mask_targets(bitmaps.cuda(), windows.cuda(), (owners + 8).cuda(), 28)
    assert not targets.any()
