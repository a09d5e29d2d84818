"""SegmentationMask: the masks of the objects of one image, as polygons or as bitmaps."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from maskrcnn_lib.structures.flat_polygons import FlatPolygons
from maskrcnn_lib.structures.instances import (
    FLIP_LEFT_RIGHT,
    Index,
    Size,
    check_flip,
    check_size,
    crop_window,
    normalize_index,
    scale_factors,
    take,
)
from maskrcnn_lib.structures.mask_input import (
    PolygonInstance,
    check_same_size,
    raster_size,
    read_bitmap,
    read_instances,
)
from maskrcnn_lib.structures.polygons import rasterize, trace

__all__ = ["BinaryMaskList", "PolygonInstance", "PolygonList", "SegmentationMask"]

MaskMode: TypeAlias = Literal["poly", "mask"]
_RESIZE_CHUNK = 16  # bitmaps resized at once, to bound the float copies


class PolygonList:
    """Polygons of N objects.

    Always on the CPU and in float64, so that rasterising gives what pycocotools gives for the
    annotation's own numbers.

    Attributes:
        points: (P, 2) float64, the x, y of all polygons of all objects one after another.
        counts: per object, the number of points of each of its polygons.
        size: (width, height) of the image.
    """

    def __init__(
        self,
        instances: "Sequence[Any] | Tensor | np.ndarray | PolygonList | BinaryMaskList",
        size: Sequence[float],
        *,
        allow_empty: bool = False,
    ) -> None:
        """Accepts what :class:`SegmentationMask` accepts; bitmaps and RLE are traced exactly."""
        self.size: Size = check_size(size)
        if isinstance(instances, PolygonList):
            check_same_size(instances.size, self.size)
            self.points, self.counts = instances.points, instances.counts
            return
        if isinstance(instances, BinaryMaskList):
            instances = instances.masks
        read = read_instances(instances, self.size, allow_empty=allow_empty)
        polygons = [value if isinstance(value, list) else trace(value) for value in read]
        for i, instance in enumerate(polygons):
            if not instance and not allow_empty:
                raise ValueError(
                    f"instance {i}: the bitmap is empty and has no polygon; pass allow_empty=True "
                    "to keep it"
                )
        self._set(polygons)

    def _set(self, polygons: Sequence[Sequence[np.ndarray]]) -> None:
        flat = [polygon for instance in polygons for polygon in instance]
        points = np.concatenate(flat) if flat else np.zeros((0, 2))
        self.points = torch.from_numpy(points)
        self.counts = [[len(polygon) for polygon in instance] for instance in polygons]

    def _derive(self, points: Tensor, size: Size) -> "PolygonList":
        result = PolygonList([], size)
        result.points, result.counts = points, self.counts
        return result

    @cached_property
    def _arrays(self) -> list[list[np.ndarray]]:
        """Per object its polygons, (K, 2) float64 views of ``points``."""
        ends = np.cumsum([n for counts in self.counts for n in counts])
        flat = iter(np.split(self.points.numpy(), ends[:-1]))
        return [[next(flat) for _ in counts] for counts in self.counts]

    @cached_property
    def flat(self) -> FlatPolygons:
        """All polygons in three tensors; made once per object."""
        return FlatPolygons.from_counts(self.points, self.counts)

    @property
    def polygons(self) -> list[PolygonInstance]:
        """The objects one by one."""
        return [
            PolygonInstance([torch.from_numpy(p.reshape(-1)) for p in instance], self.size)
            for instance in self._arrays
        ]

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, item: Index) -> "PolygonList":
        index = normalize_index(item, len(self))
        result = PolygonList([], self.size)
        result._set(take(self._arrays, index))
        return result

    def transpose(self, method: int) -> "PolygonList":
        """Mirrored: 0 left-right, 1 top-bottom."""
        check_flip(method)
        axis = 0 if method == FLIP_LEFT_RIGHT else 1
        points = self.points.clone()
        points[:, axis] = self.size[axis] - points[:, axis]
        return self._derive(points, self.size)

    def crop(self, box: Sequence[float] | Tensor) -> "PolygonList":
        """Moved into a window; what lies outside it is kept and covers no pixel."""
        x1, y1, x2, y2 = crop_window(box)
        shift = torch.tensor((x1, y1), dtype=torch.float64)
        return self._derive(self.points - shift, check_size((x2 - x1, y2 - y1)))

    def resize(self, size: Sequence[float]) -> "PolygonList":
        """Scaled to ``size`` = (width, height)."""
        size = check_size(size)
        factors = torch.tensor(scale_factors(self.size, size), dtype=torch.float64)
        return self._derive(self.points * factors, size)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "PolygonList":
        """Itself: polygons are rasterised on the CPU and stay there."""
        return self

    def get_mask_tensor(self) -> Tensor:
        """(N, H, W) bool on the CPU."""
        size = raster_size(self.size)
        masks = torch.zeros((len(self), *size), dtype=torch.bool)
        for mask, polygons in zip(masks, self._arrays, strict=True):
            mask.copy_(torch.from_numpy(rasterize(polygons, size)))
        return masks

    @staticmethod
    def cat(parts: "Sequence[PolygonList]") -> "PolygonList":
        """All objects of several lists of one size."""
        result = PolygonList([], parts[0].size)
        result.points = torch.cat([part.points for part in parts])
        result.counts = [counts for part in parts for counts in part.counts]
        return result


class BinaryMaskList:
    """Bitmaps of N objects.

    Attributes:
        masks: (N, H, W) bool.
        size: (width, height), whole pixels.
    """

    def __init__(
        self,
        instances: "Sequence[Any] | Tensor | np.ndarray | PolygonList | BinaryMaskList",
        size: Sequence[float],
        *,
        allow_empty: bool = False,
    ) -> None:
        """Accepts what :class:`SegmentationMask` accepts. A tensor stays on its device."""
        height, width = raster_size(check_size(size))
        self.size: Size = (width, height)
        if isinstance(instances, BinaryMaskList):
            instances = instances.masks
        elif isinstance(instances, PolygonList):
            instances = instances.get_mask_tensor()
        if isinstance(instances, Tensor | np.ndarray) and instances.ndim in (2, 3):
            masks = read_bitmap(instances, (height, width))
            self.masks = masks if masks.ndim == 3 else masks[None]
            return
        read = read_instances(instances, self.size, allow_empty=allow_empty)
        self.masks = torch.zeros((len(read), height, width), dtype=torch.bool)
        for mask, value in zip(self.masks, read, strict=True):
            bitmap = rasterize(value, (height, width)) if isinstance(value, list) else value
            mask.copy_(torch.from_numpy(bitmap))

    def __len__(self) -> int:
        return self.masks.shape[0]

    def __getitem__(self, item: Index) -> "BinaryMaskList":
        return BinaryMaskList(take(self.masks, normalize_index(item, len(self))), self.size)

    def transpose(self, method: int) -> "BinaryMaskList":
        """Mirrored: 0 left-right, 1 top-bottom."""
        check_flip(method)
        return BinaryMaskList(self.masks.flip(2 if method == FLIP_LEFT_RIGHT else 1), self.size)

    def crop(self, box: Sequence[float] | Tensor) -> "BinaryMaskList":
        """The part inside a window rounded to whole pixels, at least one; zero beyond the image."""
        x1, y1, x2, y2 = crop_window(box)
        left, top = int(np.floor(x1 + 0.5)), int(np.floor(y1 + 0.5))
        right = max(int(np.floor(x2 + 0.5)), left + 1)
        bottom = max(int(np.floor(y2 + 0.5)), top + 1)
        part = self.masks.new_zeros((len(self), bottom - top, right - left))
        width, height = self.size
        x_from, x_to = max(left, 0), min(right, width)
        y_from, y_to = max(top, 0), min(bottom, height)
        if x_from < x_to and y_from < y_to:
            inside = self.masks[:, y_from:y_to, x_from:x_to]
            part[:, y_from - top : y_to - top, x_from - left : x_to - left] = inside
        return BinaryMaskList(part, (right - left, bottom - top))

    def resize(self, size: Sequence[float]) -> "BinaryMaskList":
        """Scaled to ``size`` = (width, height): bilinear in float, then >= 0.5."""
        height, width = raster_size(check_size(size))
        parts = [
            F.interpolate(part[None].float(), (height, width), mode="bilinear")[0] >= 0.5
            for part in self.masks.split(_RESIZE_CHUNK)
            if len(part)
        ]
        masks = torch.cat(parts) if parts else self.masks.new_zeros((0, height, width))
        return BinaryMaskList(masks, (width, height))

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "BinaryMaskList":
        """The bitmaps on ``device``."""
        return BinaryMaskList(self.masks.to(device, non_blocking=non_blocking), self.size)

    def get_mask_tensor(self) -> Tensor:
        """(N, H, W) bool."""
        return self.masks

    @staticmethod
    def cat(parts: "Sequence[BinaryMaskList]") -> "BinaryMaskList":
        """All objects of several lists of one size."""
        return BinaryMaskList(torch.cat([part.masks for part in parts]), parts[0].size)


class SegmentationMask:
    """Masks of the objects of one image; a field of BoxList that follows its operations.

    Every instance is kept, in order: ``len`` is the number of instances given. Indexing by int,
    slice, integers or booleans and iteration give SegmentationMasks. All methods return new
    objects.

    Attributes:
        instances: PolygonList or BinaryMaskList.
        size: (width, height) of the image.
        mode: ``"poly"`` or ``"mask"``.
    """

    def __init__(
        self,
        instances: "Sequence[Any] | Tensor | np.ndarray | PolygonList | BinaryMaskList | "
        "SegmentationMask",
        size: Sequence[float],
        mode: MaskMode = "poly",
        *,
        allow_empty: bool = False,
    ) -> None:
        """Checks the instances and brings all of them into one representation.

        Args:
            instances: one entry per object, in any mixture of: a list of polygons, each flat
                [x1, y1, x2, y2, ...] or (K, 2); COCO RLE with counts as numbers, str or bytes; a
                (H, W) bitmap (bool, integers where non-zero is inside, or probabilities where 0.5
                and more is). Or a (N, H, W) tensor; or masks of this size in either
                representation.
            size: (width, height) of the image; RLE and bitmaps must have it.
            mode: ``"poly"`` keeps polygons and traces bitmaps along their pixel edges, holes
                included, so that nothing is lost; ``"mask"`` rasterises polygons.
            allow_empty: keep an instance without a valid polygon (fewer than three points), or in
                mode "poly" an empty bitmap, as an empty mask instead of refusing it.

        Raises:
            ValueError: naming the instance: without valid polygon, with NaN or an odd number of
                coordinates, RLE whose runs do not fill the image, or another size.
            TypeError: an instance of no accepted kind.
        """
        if mode not in ("poly", "mask"):
            raise ValueError(f"mode must be 'poly' or 'mask', got {mode!r}")
        if isinstance(instances, SegmentationMask):
            instances = instances.instances
        kind = PolygonList if mode == "poly" else BinaryMaskList
        self.instances: PolygonList | BinaryMaskList = kind(
            instances, size, allow_empty=allow_empty
        )
        self.mode: MaskMode = mode

    @classmethod
    def _wrap(cls, instances: PolygonList | BinaryMaskList) -> "SegmentationMask":
        result = cls.__new__(cls)
        result.instances = instances
        result.mode = "poly" if isinstance(instances, PolygonList) else "mask"
        return result

    @property
    def size(self) -> Size:
        """(width, height)."""
        return self.instances.size

    def __len__(self) -> int:
        return len(self.instances)

    def __getitem__(self, item: Index) -> "SegmentationMask":
        return self._wrap(self.instances[item])

    def __iter__(self) -> "Iterator[SegmentationMask]":
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        width, height = self.size
        return (
            f"SegmentationMask(num_instances={len(self)}, image_width={width}, "
            f"image_height={height}, mode={self.mode})"
        )

    def transpose(self, method: int) -> "SegmentationMask":
        """Masks of the mirrored image: FLIP_LEFT_RIGHT (0) or FLIP_TOP_BOTTOM (1)."""
        return self._wrap(self.instances.transpose(method))

    def crop(self, box: Sequence[float] | Tensor) -> "SegmentationMask":
        """Masks of the part of the image inside the window x1, y1, x2, y2 (pixels).

        The window may reach beyond the image. Polygons take it as it is, bitmaps round it to whole
        pixels and keep at least one.

        Raises:
            ValueError: an empty window.
        """
        return self._wrap(self.instances.crop(box))

    def resize(self, size: Sequence[float]) -> "SegmentationMask":
        """Masks of the image scaled to ``size`` = (width, height)."""
        return self._wrap(self.instances.resize(size))

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "SegmentationMask":
        """Bitmaps on ``device``; polygons stay on the CPU, where they are rasterised."""
        return self._wrap(self.instances.to(device, non_blocking=non_blocking))

    def convert(self, mode: MaskMode) -> "SegmentationMask":
        """The same masks as polygons or as bitmaps; self where nothing changes.

        An empty bitmap becomes an instance without polygons.
        """
        if mode == self.mode:
            return self
        return SegmentationMask(self.instances, self.size, mode, allow_empty=True)

    def get_mask_tensor(self) -> Tensor:
        """(N, H, W) bool, also for N = 1 (where maskrcnn-benchmark dropped the dimension)."""
        return self.instances.get_mask_tensor()

    def flat_polygons(self) -> FlatPolygons:
        """All polygons in three tensors on the CPU, for ``layers.polygon_mask_targets``.

        Made once per object, and shared: do not change them.

        Raises:
            ValueError: the masks are bitmaps; ``layers.bitmap_mask_targets`` takes those.
        """
        if not isinstance(self.instances, PolygonList):
            raise ValueError(
                "masks of mode 'mask' have no polygons: use get_mask_tensor(), or convert('poly')"
            )
        return self.instances.flat

    @classmethod
    def cat(cls, parts: "Sequence[SegmentationMask]") -> "SegmentationMask":
        """All instances of several masks.

        Raises:
            ValueError: nothing to join, or sizes or modes differ.
        """
        if not parts or len({(part.size, part.mode) for part in parts}) > 1:
            kinds = [(part.size, part.mode) for part in parts]
            raise ValueError(f"masks to join need one size and mode, got {kinds}")
        return cls._wrap(type(parts[0].instances).cat([part.instances for part in parts]))
