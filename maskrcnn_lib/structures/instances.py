"""Rules that all containers of instances share: sizes, crop windows, indices and extra fields.

An instance container (BoxList, SegmentationMask, Keypoints) holds one entry per object of one image
and knows the image's size as (width, height).
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

FLIP_LEFT_RIGHT: Literal[0] = 0
FLIP_TOP_BOTTOM: Literal[1] = 1

Size: TypeAlias = tuple[float, float]
Index: TypeAlias = int | slice | Tensor | np.ndarray | Sequence[int] | Sequence[bool]


def _plain(value: float) -> float:
    """The number as int where it is whole, else as float."""
    value = float(value)
    return int(value) if value.is_integer() else value


def check_size(size: Sequence[float], *, name: str = "size") -> Size:
    """Returns ``size`` as (width, height); whole numbers come back as int.

    Raises:
        ValueError: not two numbers, or one that is not finite and above zero.
    """
    values = list(size)
    if len(values) != 2 or not all(math.isfinite(v) and v > 0 for v in values):
        raise ValueError(f"{name} must be (width, height), both above zero, got {tuple(values)}")
    return _plain(values[0]), _plain(values[1])


def check_flip(method: int) -> None:
    """Raises ValueError unless ``method`` is FLIP_LEFT_RIGHT (0) or FLIP_TOP_BOTTOM (1)."""
    if method not in (FLIP_LEFT_RIGHT, FLIP_TOP_BOTTOM):
        raise ValueError(
            f"flip must be FLIP_LEFT_RIGHT (0) or FLIP_TOP_BOTTOM (1), got {method!r}; "
            "other transpositions are not supported"
        )


def crop_window(box: Sequence[float] | Tensor) -> tuple[float, float, float, float]:
    """Returns a crop window as four numbers x1, y1, x2, y2 in pixels.

    The window may reach beyond the image: what lies outside is empty.

    Raises:
        ValueError: not four finite numbers, or x2 <= x1, or y2 <= y1.
    """
    values = [float(v) for v in (box.tolist() if isinstance(box, Tensor) else box)]
    if len(values) != 4 or not all(math.isfinite(v) for v in values):
        raise ValueError(f"crop window must be four finite numbers x1, y1, x2, y2, got {values}")
    x1, y1, x2, y2 = values
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"crop window {values} is empty: x2 must exceed x1 and y2 exceed y1")
    return x1, y1, x2, y2


def scale_factors(old: Size, new: Size) -> tuple[float, float]:
    """Horizontal and vertical factor that bring size ``old`` to size ``new``."""
    return new[0] / old[0], new[1] / old[1]


def normalize_index(item: Index, length: int) -> slice | Tensor:
    """Brings whatever selects instances into a slice or a 1-D int64 tensor.

    An int selects one instance and keeps the dimension. Booleans (also uint8, as torch reads them)
    are a mask over all instances.

    Args:
        item: int, slice, sequence, array or tensor of integers or booleans.
        length: number of instances.

    Raises:
        IndexError: an int outside the range, or a mask of another length.
        TypeError: anything that is not an index.
    """
    if isinstance(item, slice):
        if item.step is None or item.step > 0:
            return item
        return torch.tensor(range(*item.indices(length)), dtype=torch.int64)
    if isinstance(item, tuple):
        raise TypeError("only the instances can be indexed; got a tuple of indices")
    index = torch.as_tensor(item)
    if index.numel() == 0 and not isinstance(item, Tensor):
        index = index.to(torch.int64)
    if index.dtype in (torch.bool, torch.uint8) and index.dim() == 1:
        if len(index) != length:
            raise IndexError(f"mask over {len(index)} entries cannot select from {length}")
        return index.nonzero().squeeze(1)
    if index.is_floating_point() or index.dtype == torch.bool or index.dim() > 1:
        raise TypeError(
            "instances are selected by int, slice, or 1-D integers or booleans, got "
            f"{tuple(index.shape)} {index.dtype}"
        )
    if index.dim() == 0:
        position = int(index)
        if not -length <= position < length:
            raise IndexError(f"index {position} is out of range for {length} instances")
        position %= length
        return slice(position, position + 1)
    return index.to(torch.int64)


def take(values: Any, index: slice | Tensor) -> Any:
    """Selects the entries of one field; ``index`` comes from :func:`normalize_index`."""
    if isinstance(index, slice):
        return values[index]
    if isinstance(values, Tensor):
        return values[index.to(values.device)]
    if isinstance(values, np.ndarray):
        return values[index.cpu().numpy()]
    if isinstance(values, list | tuple):
        return type(values)(values[i] for i in index.tolist())
    return values[index]


class FieldsMixin:
    """Named extra data of a container, one entry per instance.

    A field is a tensor or array whose first dimension is the instance, a list or tuple, or another
    container (masks, key points). The class that mixes this in has ``__len__`` and sets
    ``extra_fields`` to an empty dict.
    """

    extra_fields: dict[str, Any]

    def __len__(self) -> int:
        raise NotImplementedError

    def add_field(self, field: str, field_data: Any) -> None:
        """Sets a field.

        Raises:
            ValueError: as many entries as instances are needed.
            TypeError: ``field_data`` has no length.
        """
        if isinstance(field_data, Tensor | np.ndarray) and field_data.ndim == 0:
            raise TypeError(f"field {field!r} needs one entry per instance, got a single number")
        try:
            count = len(field_data)
        except TypeError as error:
            raise TypeError(
                f"field {field!r} needs one entry per instance, got {type(field_data).__name__}"
            ) from error
        if count != len(self):
            raise ValueError(
                f"field {field!r} has {count} entries for {len(self)} instances; "
                "a field has one entry per instance"
            )
        self.extra_fields[field] = field_data

    def get_field(self, field: str) -> Any:
        """Returns a field; raises KeyError naming the fields that exist."""
        if field not in self.extra_fields:
            raise KeyError(f"no field {field!r}; there are {self.fields()}")
        return self.extra_fields[field]

    def has_field(self, field: str) -> bool:
        """Whether the field exists."""
        return field in self.extra_fields

    def fields(self) -> list[str]:
        """Names of all fields."""
        return list(self.extra_fields)

    def _fields_through(self, method: str, *args: Any) -> dict[str, Any]:
        """The fields after a geometric method: containers follow it, plain data stays."""
        plain = (Tensor, np.ndarray, list, tuple)
        return {
            name: value
            if isinstance(value, plain) or not hasattr(value, method)
            else getattr(value, method)(*args)
            for name, value in self.extra_fields.items()
        }

    def _fields_at(self, index: slice | Tensor) -> dict[str, Any]:
        """The fields of the selected instances."""
        return {name: take(value, index) for name, value in self.extra_fields.items()}

    def _fields_to(self, device: torch.device | str, *, non_blocking: bool) -> dict[str, Any]:
        """The fields on a device; those without a ``to`` stay."""
        return {
            name: value.to(device, non_blocking=non_blocking) if hasattr(value, "to") else value
            for name, value in self.extra_fields.items()
        }


def cat_fields(parts: Sequence[FieldsMixin]) -> dict[str, Any]:
    """Joins the fields of several containers that have the same fields.

    Raises:
        ValueError: the sets of field names differ.
        TypeError: a field of a kind that cannot be joined.
    """
    names = parts[0].fields()
    for i, part in enumerate(parts):
        if set(part.fields()) != set(names):
            raise ValueError(
                f"all parts need the same fields: the first has {sorted(names)}, "
                f"number {i} has {sorted(part.fields())}"
            )
    return {name: _cat_values(name, [part.extra_fields[name] for part in parts]) for name in names}


def _cat_values(name: str, values: list[Any]) -> Any:
    """One field of several containers, end to end."""
    first = values[0]
    if len({type(value) for value in values}) == 1:
        if isinstance(first, Tensor):
            return torch.cat(values)
        if isinstance(first, np.ndarray):
            return np.concatenate(values)
        if isinstance(first, list | tuple):
            return type(first)(entry for value in values for entry in value)
        if hasattr(first, "cat"):
            return type(first).cat(values)
    kinds = sorted({type(value).__name__ for value in values})
    raise TypeError(f"field {name!r} cannot be joined from {kinds}")
