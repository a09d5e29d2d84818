"""Polygons of many objects in three tensors, as the operators take them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class FlatPolygons(NamedTuple):
    """Polygons of G objects, Q in all, with P points in all.

    Its three tensors are the first arguments of ``layers.polygon_mask_targets``.

    Attributes:
        points: (P, 2) float64, x and y in pixels, one polygon after another.
        polygon_offsets: (Q + 1,) int64; polygon q has the points from entry q to entry q + 1.
        instance_offsets: (G + 1,) int64; object g has the polygons from entry g to entry g + 1.
    """

    points: Tensor
    polygon_offsets: Tensor
    instance_offsets: Tensor

    @classmethod
    def from_counts(cls, points: Tensor, counts: Sequence[Sequence[int]]) -> "FlatPolygons":
        """Flat polygons from the number of points of each polygon of each object."""
        polygon_sizes = [count for instance in counts for count in instance]
        return cls(points, _offsets(polygon_sizes), _offsets([len(c) for c in counts]))

    @classmethod
    def cat(cls, parts: "Sequence[FlatPolygons]") -> "FlatPolygons":
        """The objects of several images, one image after another.

        Object g of image i becomes object g + (number of objects of the images before i).
        """
        if not parts:
            return cls.from_counts(torch.zeros((0, 2), dtype=torch.float64), [])
        points = torch.cat([part.points for part in parts])
        polygon_offsets = _joined([part.polygon_offsets for part in parts])
        return cls(points, polygon_offsets, _joined([part.instance_offsets for part in parts]))

    @property
    def count(self) -> int:
        """G, the number of objects."""
        return len(self.instance_offsets) - 1

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "FlatPolygons":
        """The same on ``device``."""
        return FlatPolygons(*(part.to(device, non_blocking=non_blocking) for part in self))


def _offsets(sizes: Sequence[int]) -> Tensor:
    return _running_total(np.array(sizes, dtype=np.int64))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Offsets of all, from those of parts that each begin at 0.

    With numpy, whose calls on so few numbers take a fraction of the time of torch's.
    """
    steps = np.concatenate([np.diff(part.cpu().numpy()) for part in parts])
    return _running_total(steps)


def _running_total(sizes: np.ndarray) -> Tensor:
    return torch.from_numpy(np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(sizes))))
