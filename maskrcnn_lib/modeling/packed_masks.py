"""The masks of a batch in a few tensors, ready for the operators that cut them to regions."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from maskrcnn_lib.structures.flat_polygons import FlatPolygons
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask
from maskrcnn_lib.utils.transfer import send


class PackedMasks(NamedTuple):
    """Masks of N images with up to G objects; an object has polygons or a bitmap.

    Attributes:
        polygons: of all objects that have polygons.
        bitmaps: (B, H, W) bool of all objects that have a bitmap; H and W of the largest image.
        polygon_index: (N, G) int64, which of the polygons' objects; negative for none.
        bitmap_index: (N, G) int64, which bitmap; negative for none.
    """

    polygons: FlatPolygons
    bitmaps: Tensor
    polygon_index: Tensor
    bitmap_index: Tensor

    def to(self, device: torch.device) -> "PackedMasks":
        """The same on ``device``; the host does not wait."""
        polygons, *others = self
        polygons = FlatPolygons(*(send(part, device) for part in polygons))
        return PackedMasks(polygons, *(send(part, device) for part in others))


def pack_masks(masks: Sequence[SegmentationMask], slots: int) -> PackedMasks:
    """Puts the masks of all images together.

    Args:
        masks: per image those of its objects; in one image all are polygons or all are bitmaps.
        slots: G, at least the number of objects of the fullest image.
    """
    numbers: dict[str, list[list[int]]] = {"poly": [], "mask": []}
    polygons: list[FlatPolygons] = []
    bitmaps: list[Tensor] = []
    counts = {"poly": 0, "mask": 0}
    for of_image in masks:
        kind = "poly" if of_image.mode == "poly" else "mask"
        for other, rows in numbers.items():
            used = len(of_image) if other == kind else 0
            first = counts[other]
            rows.append([*range(first, first + used), *[-1] * (slots - used)])
        counts[kind] += len(of_image)
        if kind == "poly":
            polygons.append(of_image.flat_polygons())
        else:
            bitmaps.append(of_image.get_mask_tensor())
    indices = torch.tensor(list(numbers.values()), dtype=torch.int64).reshape(2, len(masks), slots)
    return PackedMasks(FlatPolygons.cat(polygons), _stack_bitmaps(bitmaps), *indices)


def _stack_bitmaps(parts: Sequence[Tensor]) -> Tensor:
    """(B, H, W) bool from (B_i, H_i, W_i); what the smaller ones do not fill is False."""
    if not parts:
        return torch.empty((0, 0, 0), dtype=torch.bool)
    if len(parts) == 1:
        return parts[0]
    height, width = (max(part.shape[axis] for part in parts) for axis in (1, 2))
    shape = sum(map(len, parts)), height, width
    stacked = torch.zeros(shape, dtype=torch.bool, device=parts[0].device)
    start = 0
    for part in parts:
        stacked[start : start + len(part), : part.shape[1], : part.shape[2]] = part
        start += len(part)
    return stacked
