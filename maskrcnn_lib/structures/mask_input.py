"""Checking of masks in every form in which annotations and users give them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskrcnn_lib.structures.instances import Size
from maskrcnn_lib.structures.polygons import read_polygons
from maskrcnn_lib.structures.rle import decode_rle


@dataclass(frozen=True)
class PolygonInstance:
    """The polygons of one object.

    Attributes:
        polygons: flat x1, y1, x2, y2, ... float64 tensors, in pixels; their union is the object.
        size: (width, height) of the image.
    """

    polygons: list[Tensor]
    size: Size

    def __len__(self) -> int:
        return len(self.polygons)


def raster_size(size: Size) -> tuple[int, int]:
    """(height, width) in whole pixels of a (width, height) size, at least 1 x 1."""
    return max(int(size[1] + 0.5), 1), max(int(size[0] + 0.5), 1)


def check_same_size(size: Size, expected: Size) -> None:
    """Raises ValueError where polygons belong to an image of another size."""
    if size != expected:
        raise ValueError(f"polygons of an image of size {size} given for size {expected}")


def read_bitmap(bitmap: Tensor | np.ndarray, size: tuple[int, int]) -> Tensor:
    """A bool bitmap of the right size: non-zero integers, or probabilities of 0.5 and more."""
    if tuple(bitmap.shape[-2:]) != size:
        raise ValueError(f"bitmap is {tuple(bitmap.shape[-2:])}, expected (height, width) = {size}")
    if isinstance(bitmap, np.ndarray):
        bitmap = np.ascontiguousarray(bitmap)  # torch refuses negative strides
    values = torch.as_tensor(bitmap)
    if not values.is_floating_point():
        return values if values.dtype == torch.bool else values != 0
    if not values.isfinite().all():
        raise ValueError("bitmap has values that are not finite")
    return values >= 0.5


def _read_instance(instance: Any, size: Size) -> list[np.ndarray] | np.ndarray:
    """Checks one instance in any accepted form.

    Returns:
        A list of (K, 2) float64 polygons, or a (H, W) bool bitmap.
    """
    if isinstance(instance, Mapping):
        return decode_rle(instance, raster_size(size))
    if isinstance(instance, PolygonInstance):
        check_same_size(instance.size, size)
        return read_polygons(instance.polygons)
    if isinstance(instance, Tensor | np.ndarray) and instance.ndim == 2:
        return read_bitmap(instance, raster_size(size)).cpu().numpy()
    if isinstance(instance, list | tuple):
        if any(isinstance(polygon, int | float) for polygon in instance):
            raise ValueError(
                "expected a list of polygons, got a list of numbers: wrap it in a list"
            )
        return read_polygons(instance)
    raise TypeError(
        "expected polygons, an RLE dict or a 2-D bitmap, got "
        f"{type(instance).__name__}{list(getattr(instance, 'shape', [])) or ''}"
    )


def read_instances(
    instances: Sequence[Any] | Tensor | np.ndarray, size: Size, *, allow_empty: bool
) -> list[list[np.ndarray] | np.ndarray]:
    """Checks all instances; an error names the instance."""
    if isinstance(instances, str | bytes | Mapping) or not hasattr(instances, "__iter__"):
        raise TypeError(f"expected a list of instances, got {type(instances).__name__}")
    if isinstance(instances, Tensor | np.ndarray) and instances.ndim == 2:
        instances = instances[None]
    result = []
    for i, instance in enumerate(instances):
        try:
            value = _read_instance(instance, size)
            if isinstance(value, list) and not value and not allow_empty:
                raise ValueError(
                    "no polygon has three points; repair the annotation, or pass allow_empty=True "
                    "to keep it as an empty mask"
                )
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"instance {i}: {error}") from error
        result.append(value)
    return result
