"""What mask heads learn: the part of an object inside a RoI, drawn into a grid of M x M cells.

Polygons are moved and stretched from the RoI to the grid in float64, then rasterised by the rule of
the COCO API (maskApi.c, rleFrPoly): even-odd within a polygon, united over an object's polygons.
The cells are those that pycocotools gives for the moved polygons on an M x M image. Bitmaps are cut
along whole pixels and resampled bilinearly; a cell belongs to the object from 0.5 on. Both are what
maskrcnn-benchmark's ``SegmentationMask.crop(box).resize((M, M))`` means, without its detour through
objects, images and run lengths.

A RoI whose instance is negative has no object; its cells are False and cost nothing, so that RoIs
of a fixed number, most of them background, can be given as they are. Masks of several images are
joined with ``FlatPolygons.cat`` (structures/flat_polygons.py), or by ``torch.cat`` of bitmaps.
"""

import torch
from torch import Tensor

from maskrcnn_lib.layers._checks import (
    require_floating,
    require_same_device,
    require_shape,
    require_tensor,
)
from maskrcnn_lib.layers._library import on_load, ops_available

_LARGEST_SIZE = 256  # as the operators have it: csrc/common/mask_target_inputs.h
_FINE = 5  # fine points per pixel, as in the COCO API
_FINE_MIDDLE = 2  # the fine point after which a pixel's middle lies
_REACH = 2.0**40  # fine coordinates stay where float64 and int64 are exact


def polygon_mask_targets(
    points: Tensor,
    polygon_offsets: Tensor,
    instance_offsets: Tensor,
    boxes: Tensor,
    instances: Tensor,
    size: int,
) -> Tensor:
    """Draws the polygons of each RoI's instance into the RoI's grid.

    The first three arguments are a ``FlatPolygons``: ``polygon_mask_targets(*flat, boxes, ...)``.

    Args:
        points: (P, 2) float64, x and y in pixels, the points of all polygons one after another.
        polygon_offsets: (Q + 1,) int64; polygon q has the points from entry q to entry q + 1.
        instance_offsets: (G + 1,) int64; instance g has the polygons from entry g to entry g + 1.
        boxes: (R, 4) floating point, xyxy in pixels, inside the image; one that is narrower or
            lower than a pixel counts as one pixel from its upper left corner on.
        instances: (R,) int64, index of each RoI's instance; negative for none.
        size: M, cells along each side, at most 256.

    Returns:
        (R, M, M) bool, rows first.

    Raises:
        ValueError: a shape, a device or ``size`` is wrong; on the CPU also: a coordinate is not
            finite, offsets do not ascend or reach too far, or an instance does not exist. (On CUDA
            such a RoI has some cells or none, and no memory outside is touched.)
        TypeError: an argument is no tensor or of another dtype.
    """
    _check_rois(boxes, instances, size, "points", points)
    require_shape("points", points, (None, 2), "(P, 2)")
    _require_dtype("points", points, torch.float64)
    for name, offsets in (
        ("polygon_offsets", polygon_offsets),
        ("instance_offsets", instance_offsets),
    ):
        require_tensor(name, offsets)
        require_same_device(name, offsets, "points", points)
        _require_dtype(name, offsets, torch.int64)
        if offsets.dim() != 1 or len(offsets) == 0:
            shape = tuple(offsets.shape)
            raise ValueError(f"{name} must be one-dimensional and not empty, but has shape {shape}")
    arguments = (points, polygon_offsets, instance_offsets, boxes, instances, size)
    if not _compiled(points):
        _check_polygon_values(*arguments[:5])
        return _polygon_reference(*arguments)
    try:
        return torch.ops.maskrcnn.polygon_mask_targets(*arguments)
    except RuntimeError:  # the operator looks at values much faster, but raises this
        _check_polygon_values(*arguments[:5])
        raise


def bitmap_mask_targets(bitmaps: Tensor, boxes: Tensor, instances: Tensor, size: int) -> Tensor:
    """Cuts each RoI's window out of its instance's bitmap and resamples it to the RoI's grid.

    Equal to ``BinaryMaskList.crop(box).resize((M, M))``, but for cells whose interpolated value is
    0.5 up to rounding.

    Args:
        bitmaps: (G, H, W) bool.
        boxes: (R, 4) floating point, xyxy in pixels; the edges are rounded to whole pixels, halves
            upwards, and the window is at least one pixel wide and high. Beyond the image all is
            False.
        instances: (R,) int64, index of each RoI's bitmap; negative for none.
        size: M, cells along each side, at most 256.

    Returns:
        (R, M, M) bool.

    Raises:
        ValueError: a shape, a device or ``size`` is wrong; on the CPU also: a coordinate is not
            finite, or an instance does not exist. (On CUDA such a RoI has some cells or none.)
        TypeError: an argument is no tensor or of another dtype.
    """
    _check_rois(boxes, instances, size, "bitmaps", bitmaps)
    require_shape("bitmaps", bitmaps, (None, None, None), "(G, H, W)")
    _require_dtype("bitmaps", bitmaps, torch.bool)
    if not _compiled(bitmaps):
        _check_roi_values(boxes, instances, len(bitmaps))
        return _bitmap_reference(bitmaps, boxes, instances, size)
    try:
        return torch.ops.maskrcnn.bitmap_mask_targets(bitmaps, boxes, instances, size)
    except RuntimeError:
        _check_roi_values(boxes, instances, len(bitmaps))
        raise


def _compiled(tensor: Tensor) -> bool:
    return tensor.device.type in ("cpu", "cuda") and ops_available(tensor.device)


def _require_dtype(name: str, tensor: Tensor, dtype: torch.dtype) -> None:
    if tensor.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, but is {tensor.dtype}")


def _check_rois(
    boxes: Tensor, instances: Tensor, size: int, source_name: str, source: Tensor
) -> None:
    """Checks what both operators share; ``source`` holds the masks."""
    require_tensor(source_name, source)
    require_floating("boxes", boxes)
    require_tensor("instances", instances)
    require_shape("boxes", boxes, (None, 4), "(R, 4)")
    require_shape("instances", instances, (boxes.shape[0],), "(R,), with R as boxes have")
    _require_dtype("instances", instances, torch.int64)
    require_same_device("boxes", boxes, source_name, source)
    require_same_device("instances", instances, source_name, source)
    if not 1 <= size <= _LARGEST_SIZE:
        raise ValueError(f"size must be from 1 to {_LARGEST_SIZE}, but is {size}")


def _check_polygon_values(
    points: Tensor,
    polygon_offsets: Tensor,
    instance_offsets: Tensor,
    boxes: Tensor,
    instances: Tensor,
) -> None:
    _require_finite("points", "point", points)
    _require_ascending("polygon_offsets", polygon_offsets, len(points), "points")
    polygons = len(polygon_offsets) - 1
    _require_ascending("instance_offsets", instance_offsets, polygons, "polygons")
    _check_roi_values(boxes, instances, len(instance_offsets) - 1)


def _check_roi_values(boxes: Tensor, instances: Tensor, count: int) -> None:
    _require_finite("boxes", "box", boxes)
    if len(instances) and int(instances.max()) >= count:
        roi = int(instances.argmax())
        raise ValueError(
            f"instances must be below {count}, the number of instances, but that of RoI {roi} is "
            f"{int(instances[roi])}"
        )


def _require_finite(name: str, singular: str, rows: Tensor) -> None:
    wrong = ~rows.isfinite().all(dim=1)
    if wrong.any():
        index = int(wrong.nonzero()[0])
        raise ValueError(f"{name} must be finite, but {singular} {index} is {rows[index].tolist()}")


def _require_ascending(name: str, offsets: Tensor, last: int, counted: str) -> None:
    if int(offsets[0]) < 0 or int(offsets[-1]) > last or bool((offsets.diff() < 0).any()):
        raise ValueError(
            f"{name} must ascend from 0 or more to at most {last}, the number of {counted}, but "
            f"goes from {int(offsets[0])} to {int(offsets[-1])}"
        )


def _polygon_reference(
    points: Tensor,
    polygon_offsets: Tensor,
    instance_offsets: Tensor,
    boxes: Tensor,
    instances: Tensor,
    size: int,
) -> Tensor:
    """The definition, one polygon after the other; the operator gives the same bits."""
    result = torch.zeros((len(boxes), size, size), dtype=torch.bool, device=points.device)
    starts, bounds = polygon_offsets.tolist(), instance_offsets.tolist()
    for cells, box, instance in zip(result, boxes.double(), instances.tolist(), strict=True):
        if instance < 0:
            continue
        # Two tensors: a number divided by a tensor is rounded twice.
        scale = box.new_tensor(size) / (box[2:] - box[:2]).clamp(min=1)
        for polygon in range(bounds[instance], bounds[instance + 1]):
            moved = (points[starts[polygon] : starts[polygon + 1]] - box[:2]) * scale
            cells |= _rasterize_reference(moved, size)
    return result


def _rasterize_reference(polygon: Tensor, size: int) -> Tensor:
    """The cells, (size, size) bool, inside a polygon, (K, 2) float64, by the COCO API's rule.

    The outline is a chain of points on a grid five times finer. Where it steps over the middle of
    a column, the cells of the column change sides from the upper point of the step on.
    """
    fine = (polygon * _FINE + 0.5).clamp(-_REACH, _REACH).long()  # truncates, as C does
    start, end = fine, fine.roll(-1, dims=0)
    columns = torch.arange(size, device=polygon.device)
    middle = _FINE * columns + _FINE_MIDDLE
    left, right = torch.minimum(start[:, 0], end[:, 0]), torch.maximum(start[:, 0], end[:, 0])
    crosses = (left[:, None] <= middle) & (middle < right[:, None])  # (K, size)
    edge, column = crosses.nonzero(as_tuple=True)
    rows = _crossing_rows(start[edge], end[edge], middle[column]).clamp(max=size)
    changes = torch.zeros((size + 1, size), dtype=torch.int64, device=polygon.device)
    changes.index_put_((rows, column), torch.ones_like(rows), accumulate=True)
    return changes[:size].cumsum(dim=0) % 2 == 1


def _crossing_rows(start: Tensor, end: Tensor, middle: Tensor) -> Tensor:
    """Rows, (C,) int64, of the crossings of edges, (C, 2) fine points, with ``middle``."""
    extent = (end - start).abs()
    steep = extent[:, 0] < extent[:, 1]
    backward = torch.where(steep, start[:, 1] > end[:, 1], start[:, 0] > end[:, 0])[:, None]
    start, end = torch.where(backward, end, start), torch.where(backward, start, end)
    (x, y), (width, height) = start.unbind(dim=1), (end - start).unbind(dim=1)
    # Shallow: the step over the middle is known, and the upper one of its two points counts.
    slope = height.double() / width
    step = middle - x + (slope < 0)
    shallow_y = (y + slope * step + 0.5).long()
    # Steep: the first step beyond the middle is found by bisection; the point before it counts.
    slope = width.double() / height
    before, beyond = torch.zeros_like(height), height
    while bool((beyond - before > 1)[steep].any()):
        between = (before + beyond) // 2
        right = (x + slope * between + 0.5).long() > middle
        crossed = right == (slope > 0)
        before = torch.where(crossed, before, between)
        beyond = torch.where(crossed, between, beyond)
    upper = torch.where(steep, y + before, shallow_y)
    return (upper + _FINE - 1 - _FINE_MIDDLE).clamp(min=0) // _FINE


def _bitmap_reference(bitmaps: Tensor, boxes: Tensor, instances: Tensor, size: int) -> Tensor:
    """The definition, in float32; the operator gives the same bits."""
    if len(bitmaps) == 0:
        return torch.zeros((len(boxes), size, size), dtype=torch.bool, device=bitmaps.device)
    height, width = bitmaps.shape[1:]
    edges = (boxes.double() + 0.5).clamp(-_REACH, _REACH).floor().long()
    top, bottom, row_weight = _window_samples(edges[:, 1], edges[:, 3], size)
    left, right, column_weight = _window_samples(edges[:, 0], edges[:, 2], size)
    column_weight = column_weight[:, None]

    def read(y: Tensor, x: Tensor) -> Tensor:  # (R, M) rows and columns -> (R, M, M)
        y, x = y[:, :, None], x[:, None]
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        if height == 0 or width == 0:
            return inside.float()
        instance = instances.clamp(min=0)[:, None, None]
        values = bitmaps[instance, y.clamp(0, height - 1), x.clamp(0, width - 1)]
        return (values & inside).float()

    def read_row(y: Tensor) -> Tensor:
        return (1 - column_weight) * read(y, left) + column_weight * read(y, right)

    row_weight = row_weight[:, :, None]
    values = (1 - row_weight) * read_row(top) + row_weight * read_row(bottom)
    return (values >= 0.5) & (instances >= 0)[:, None, None]


def _window_samples(low: Tensor, high: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels between which each cell of each window lies, and the second one's weight: (R, M)."""
    length = (high - low).clamp(min=1)[:, None]
    step = length.float() / size
    centre = torch.arange(size, device=low.device).float() + 0.5
    position = (centre * step - 0.5).clamp(min=0)
    index = torch.minimum(position.long(), length - 1)
    weight = (position - index.float()).clamp(max=1)
    first = low[:, None]
    return first + index, first + torch.minimum(index + 1, length - 1), weight


def _register_fakes() -> None:
    def fake(*arguments: Tensor | int) -> Tensor:
        *_, boxes, _, size = arguments
        return boxes.new_empty((boxes.shape[0], size, size), dtype=torch.bool)

    torch.library.register_fake("maskrcnn::polygon_mask_targets")(fake)
    torch.library.register_fake("maskrcnn::bitmap_mask_targets")(fake)


on_load(_register_fakes)
