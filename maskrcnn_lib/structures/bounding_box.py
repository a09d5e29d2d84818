"""BoxList: the boxes of one image, with fields that follow every operation.

Boxes are continuous: width = x2 - x1, the pixel in column i covers [i, i + 1].
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from maskrcnn_lib.structures.exchange import ExchangeMixin
from maskrcnn_lib.structures.instances import (
    FLIP_LEFT_RIGHT,
    FLIP_TOP_BOTTOM,
    Index,
    Size,
    check_flip,
    check_size,
    crop_window,
    normalize_index,
    scale_factors,
    take,
)

__all__ = ["FLIP_LEFT_RIGHT", "FLIP_TOP_BOTTOM", "BoxList"]

Mode: TypeAlias = Literal["xyxy", "xywh"]


class BoxList(ExchangeMixin):
    """Boxes of one image and what is known about each of them.

    ``boxes[i]``, ``boxes[2:5]``, ``boxes[[0, 3]]``, ``boxes[mask]`` select boxes together with
    their fields and always return a BoxList; an int gives a BoxList of one. Every operation returns
    a new BoxList and leaves this one as it is; tensors that need no change are shared, not copied.
    Geometric operations are passed on to fields that know them (masks, key points). ``to_dict``,
    ``to_coco``, ``to_supervision`` and ``to_rows`` give all of it to other programs.

    Attributes:
        bbox: (N, 4) float32 in pixels, in the layout that ``mode`` names.
        size: (width, height) of the image.
        mode: ``"xyxy"``: x1, y1, x2, y2; ``"xywh"``: x1, y1, width, height.
        extra_fields: field name -> data, one entry per box.
        proposals: regions of the image that were proposed beforehand, None where there are none.
            They follow geometric operations and stay as they are when boxes are selected.
    """

    def __init__(
        self,
        bbox: Tensor | np.ndarray | Sequence[Sequence[float]],
        image_size: Sequence[float],
        mode: Mode = "xyxy",
    ) -> None:
        """Holds ``bbox`` as float32 on the device where it is.

        Raises:
            ValueError: not N x 4 numbers, an unknown mode, or an impossible image size.
        """
        boxes = torch.as_tensor(bbox, dtype=torch.float32)
        if boxes.numel() == 0 and boxes.dim() < 2:
            boxes = boxes.reshape(0, 4)
        if boxes.dim() != 2 or boxes.shape[1] != 4:
            raise ValueError(f"bbox must have shape (N, 4), got {tuple(boxes.shape)}")
        if mode not in ("xyxy", "xywh"):
            raise ValueError(f"mode must be 'xyxy' or 'xywh', got {mode!r}")
        self.bbox = boxes
        self.size: Size = check_size(image_size, name="image_size")
        self.mode: Mode = mode
        self.extra_fields: dict[str, Any] = {}
        self.proposals: BoxList | None = None

    def __len__(self) -> int:
        return self.bbox.shape[0]

    def __getitem__(self, item: Index) -> "BoxList":
        index = normalize_index(item, len(self))
        return self._derive(take(self.bbox, index), self._fields_at(index))

    def __repr__(self) -> str:
        width, height = self.size
        return (
            f"BoxList(num_boxes={len(self)}, image_width={width}, image_height={height}, "
            f"mode={self.mode}, fields={self.fields()})"
        )

    def _derive(
        self, bbox: Tensor, fields: dict[str, Any], *, size: Sequence[float] | None = None
    ) -> "BoxList":
        """A BoxList of the same mode with other boxes and fields."""
        result = BoxList(bbox, size or self.size, self.mode)
        result.extra_fields = fields
        result.proposals = self.proposals
        return result

    def _moved(
        self, bbox: Tensor, method: str, argument: Any, *, size: Sequence[float] | None = None
    ) -> "BoxList":
        """A BoxList with other boxes, and with what follows the geometric ``method``."""
        result = self._derive(bbox, self._fields_through(method, argument), size=size)
        if self.proposals is not None:
            result.proposals = getattr(self.proposals, method)(argument)
        return result

    def _corners(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x1, y1, x2, y2, each (N,)."""
        x1, y1, a, b = self.bbox.unbind(1)
        return (x1, y1, a, b) if self.mode == "xyxy" else (x1, y1, x1 + a, y1 + b)

    def convert(self, mode: Mode) -> "BoxList":
        """The same boxes in another layout; self where nothing changes.

        Raises:
            ValueError: unknown mode.
        """
        if mode == self.mode:
            return self
        result = BoxList(_join(*self._corners(), mode), self.size, mode)
        result.extra_fields = dict(self.extra_fields)
        result.proposals = self.proposals
        return result

    def resize(self, size: Sequence[float]) -> "BoxList":
        """The boxes in the image scaled to ``size`` = (width, height)."""
        size = check_size(size)
        x, y = scale_factors(self.size, size)
        factors = torch.tensor((x, y, x, y), dtype=torch.float32, device=self.bbox.device)
        return self._moved(self.bbox * factors, "resize", size, size=size)

    def transpose(self, method: int) -> "BoxList":
        """The boxes in the mirrored image.

        Args:
            method: FLIP_LEFT_RIGHT (0) or FLIP_TOP_BOTTOM (1).

        Raises:
            ValueError: another value.
        """
        check_flip(method)
        width, height = self.size
        x1, y1, x2, y2 = self._corners()
        if method == FLIP_LEFT_RIGHT:
            x1, x2 = width - x2, width - x1
        else:
            y1, y2 = height - y2, height - y1
        return self._moved(_join(x1, y1, x2, y2, self.mode), "transpose", method)

    def crop(self, box: Sequence[float] | Tensor) -> "BoxList":
        """The boxes in the part of the image inside a window, clipped to it.

        Boxes outside the window become empty and stay in the list, so that every field keeps its
        entries; ``clip_to_image`` removes them.

        Args:
            box: window x1, y1, x2, y2 in pixels; it may reach beyond the image.

        Raises:
            ValueError: an empty window.
        """
        left, top, right, bottom = crop_window(box)
        width, height = right - left, bottom - top
        x1, y1, x2, y2 = self._corners()
        boxes = _join(
            (x1 - left).clamp(0, width),
            (y1 - top).clamp(0, height),
            (x2 - left).clamp(0, width),
            (y2 - top).clamp(0, height),
            self.mode,
        )
        return self._moved(boxes, "crop", (left, top, right, bottom), size=(width, height))

    def clip_to_image(self, *, remove_empty: bool = True) -> "BoxList":
        """A new BoxList with the boxes clipped to the image.

        maskrcnn-benchmark changed its boxes in place and returned itself; here use the result.

        Args:
            remove_empty: leave out boxes without width or height after clipping.
        """
        width, height = self.size
        x1, y1, x2, y2 = self._corners()
        x1, x2 = x1.clamp(0, width), x2.clamp(0, width)
        y1, y2 = y1.clamp(0, height), y2.clamp(0, height)
        clipped = self._derive(_join(x1, y1, x2, y2, self.mode), dict(self.extra_fields))
        return clipped[(x2 > x1) & (y2 > y1)] if remove_empty else clipped

    def area(self) -> Tensor:
        """(N,) float32 areas in square pixels."""
        x1, y1, x2, y2 = self._corners()
        return (x2 - x1) * (y2 - y1)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "BoxList":
        """The boxes and all fields that can move, on ``device``."""
        return self._derive(
            self.bbox.to(device, non_blocking=non_blocking),
            self._fields_to(device, non_blocking=non_blocking),
        )

    def copy_with_fields(
        self, fields: str | Sequence[str], *, skip_missing: bool = False
    ) -> "BoxList":
        """The same boxes with only some fields; nothing is copied.

        Raises:
            KeyError: a field is missing and ``skip_missing`` is False.
        """
        names = [fields] if isinstance(fields, str) else list(fields)
        kept = {n: self.get_field(n) for n in names if not skip_missing or self.has_field(n)}
        return self._derive(self.bbox, kept)


def _join(x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor, mode: Mode) -> Tensor:
    """(N, 4) boxes in the layout of ``mode``."""
    if mode == "xywh":
        x2, y2 = x2 - x1, y2 - y1
    return torch.stack((x1, y1, x2, y2), dim=1)
