"""Keypoints: named points of the objects of one image, and the 17 of COCO's persons."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from maskrcnn_lib.structures.instances import (
    FLIP_LEFT_RIGHT,
    FieldsMixin,
    Index,
    Size,
    cat_fields,
    check_flip,
    check_size,
    crop_window,
    normalize_index,
    scale_factors,
    take,
)

Self = TypeVar("Self", bound="Keypoints")

_OTHER_SIDE = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}


@dataclass(frozen=True)
class Skeleton:
    """The points that objects of a data set have.

    Attributes:
        names: one per point; those that differ in the words left and right alone are partners,
            which change places in a mirror.
        connections: pairs of point indices to draw as lines.
    """

    names: tuple[str, ...]
    connections: tuple[tuple[int, int], ...] = ()

    @property
    def flip_inds(self) -> tuple[int, ...]:
        """(K,) for each point the one that takes its place in a mirror."""
        places = {name: index for index, name in enumerate(self.names)}
        partners = (
            re.sub("|".join(_OTHER_SIDE), lambda match: _OTHER_SIDE[match[0]], name)
            for name in self.names
        )
        return tuple(places.get(name, index) for index, name in enumerate(partners))


def _pairs(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> tuple[tuple[int, int], ...]:
    """Pairs of names as pairs of indices."""
    return tuple((names.index(a), names.index(b)) for a, b in pairs)


class Keypoints(FieldsMixin):
    """K points of each of N objects; a field of BoxList that follows its operations.

    A point that is not labelled has visibility 0 and stands at (0, 0). Other skeletons are
    subclasses that set NAMES, FLIP_MAP and CONNECTIONS, from which FLIP_INDS follows; or they are
    given to each object, whose NAMES, CONNECTIONS and FLIP_INDS are the skeleton's then. Geometric
    methods leave extra fields as they are.

    Attributes:
        keypoints: (N, K, 3) float32: x, y in pixels, visibility (0 not labelled, 1 hidden,
            2 visible). Coordinates of data sets and of detections on the original image are COCO's,
            which name a pixel; what a model sees lies ``Dialect.keypoint_offset`` further.
        size: (width, height) of the image.
        skeleton: the one given; None for the class's own.
        extra_fields: field name -> data, one entry per object.
        NAMES: name of each point; empty: any K.
        FLIP_MAP: points that change places in a mirror, left name -> right name.
        FLIP_INDS: (K,) for each point the one that takes its place in a mirror.
        CONNECTIONS: pairs of point indices to draw as lines.
    """

    NAMES: ClassVar[tuple[str, ...]] = ()
    FLIP_MAP: ClassVar[Mapping[str, str]] = {}
    FLIP_INDS: ClassVar[tuple[int, ...]] = ()
    CONNECTIONS: ClassVar[tuple[tuple[int, int], ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        partner = dict(cls.FLIP_MAP) | {right: left for left, right in cls.FLIP_MAP.items()}
        unknown = sorted(set(partner) - set(cls.NAMES))
        if unknown:
            raise ValueError(f"{cls.__name__}.FLIP_MAP names points that NAMES lacks: {unknown}")
        cls.FLIP_INDS = tuple(cls.NAMES.index(partner.get(name, name)) for name in cls.NAMES)

    def __init__(
        self,
        keypoints: Tensor | np.ndarray | Sequence[Any],
        size: Sequence[float],
        skeleton: Skeleton | None = None,
    ) -> None:
        """Holds the points as float32.

        Args:
            keypoints: (N, K, 3), or (N, 3 K) as COCO's annotations have them.
            size: (width, height) of the image.
            skeleton: of these objects; None for the class's own.

        Raises:
            ValueError: another shape, or not as many points as NAMES.
        """
        self.skeleton = skeleton
        if skeleton is not None:
            self.NAMES = skeleton.names
            self.FLIP_INDS = skeleton.flip_inds
            self.CONNECTIONS = skeleton.connections
        points = torch.as_tensor(keypoints, dtype=torch.float32)
        if points.numel() == 0 and points.dim() < 3:
            points = points.reshape(0, len(self.NAMES), 3)
        if points.dim() == 2 and points.shape[1] % 3 == 0:
            points = points.reshape(len(points), -1, 3)
        if points.dim() != 3 or points.shape[2] != 3:
            raise ValueError(f"keypoints must be (N, K, 3), got {tuple(points.shape)}")
        if self.NAMES and points.shape[1] != len(self.NAMES):
            raise ValueError(
                f"{type(self).__name__} has {len(self.NAMES)} points per object, "
                f"got {points.shape[1]}"
            )
        self.keypoints = points
        self.size: Size = check_size(size)
        self.extra_fields: dict[str, Any] = {}

    def __len__(self) -> int:
        return self.keypoints.shape[0]

    def __getitem__(self: Self, item: Index) -> Self:
        index = normalize_index(item, len(self))
        return self._derive(take(self.keypoints, index), self._fields_at(index))

    def __repr__(self) -> str:
        width, height = self.size
        return (
            f"{type(self).__name__}(num_instances={len(self)}, image_width={width}, "
            f"image_height={height}, fields={self.fields()})"
        )

    def _derive(
        self: Self,
        keypoints: Tensor,
        fields: dict[str, Any] | None = None,
        *,
        size: Sequence[float] | None = None,
    ) -> Self:
        result = type(self)(keypoints, size or self.size, self.skeleton)
        result.extra_fields = dict(self.extra_fields) if fields is None else fields
        return result

    def resize(self: Self, size: Sequence[float]) -> Self:
        """The points in the image scaled to ``size`` = (width, height)."""
        size = check_size(size)
        factors = self.keypoints.new_tensor((*scale_factors(self.size, size), 1.0))
        return self._derive(self.keypoints * factors, size=size)

    def transpose(self: Self, method: int) -> Self:
        """The points in the mirrored image, with left and right exchanged.

        A mirror turns a left hand into a right one whatever its axis; both flips together are a
        half turn and exchange nothing.

        Args:
            method: FLIP_LEFT_RIGHT (0) or FLIP_TOP_BOTTOM (1).
        """
        check_flip(method)
        axis = 0 if method == FLIP_LEFT_RIGHT else 1
        points = self.keypoints[:, list(self.FLIP_INDS)] if self.NAMES else self.keypoints.clone()
        points[..., axis] = self.size[axis] - points[..., axis]
        return self._derive(points.masked_fill(points[..., 2:] <= 0, 0.0))

    def crop(self: Self, box: Sequence[float] | Tensor) -> Self:
        """The points in the part of the image inside the window x1, y1, x2, y2 (pixels).

        Points outside become unlabelled.

        Raises:
            ValueError: an empty window.
        """
        x1, y1, x2, y2 = crop_window(box)
        width, height = x2 - x1, y2 - y1
        points = self.keypoints - self.keypoints.new_tensor((x1, y1, 0))
        x, y, visibility = points.unbind(2)
        inside = (visibility > 0) & (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
        return self._derive(points.masked_fill(~inside[..., None], 0.0), size=(width, height))

    def shift(self: Self, dx: float, dy: float) -> Self:
        """The points moved by ``dx`` and ``dy`` pixels in the same image."""
        moved = self.keypoints + self.keypoints.new_tensor((dx, dy, 0.0))
        return self._derive(moved.masked_fill(moved[..., 2:] <= 0, 0.0))

    def to(self: Self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """The points and fields on ``device``."""
        return self._derive(
            self.keypoints.to(device, non_blocking=non_blocking),
            self._fields_to(device, non_blocking=non_blocking),
        )

    @staticmethod
    def cat(parts: "Sequence[Keypoints]") -> "Keypoints":
        """All objects of several Keypoints of one class, skeleton, size and set of fields.

        Raises:
            ValueError: nothing to join, or they differ.
        """
        if not parts or len({(type(part), part.skeleton, part.size) for part in parts}) > 1:
            kinds = [(type(part).__name__, part.skeleton, part.size) for part in parts]
            raise ValueError(f"keypoints to join need one class, skeleton and size, got {kinds}")
        points = torch.cat([part.keypoints for part in parts])
        return parts[0]._derive(points, cat_fields(parts))


class PersonKeypoints(Keypoints):
    """COCO's 17 points of a person."""

    NAMES = (
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
    )
    FLIP_MAP: ClassVar[Mapping[str, str]] = {
        name: name.replace("left", "right") for name in NAMES if name.startswith("left")
    }
    CONNECTIONS = _pairs(
        NAMES,
        (
            ("left_eye", "right_eye"),
            ("left_eye", "nose"),
            ("right_eye", "nose"),
            ("right_eye", "right_ear"),
            ("left_eye", "left_ear"),
            ("right_shoulder", "right_elbow"),
            ("right_elbow", "right_wrist"),
            ("left_shoulder", "left_elbow"),
            ("left_elbow", "left_wrist"),
            ("right_hip", "right_knee"),
            ("right_knee", "right_ankle"),
            ("left_hip", "left_knee"),
            ("left_knee", "left_ankle"),
            ("right_shoulder", "left_shoulder"),
            ("right_hip", "left_hip"),
        ),
    )


def make_keypoints(points: Tensor, size: Sequence[float], skeleton: Skeleton | None) -> Keypoints:
    """Keypoints of the class that fits them.

    Args:
        points: (N, K, 3).
        size: (width, height) of the image.
        skeleton: None where it is not known.

    Returns:
        PersonKeypoints where the names are those of a person, or are unknown and of that number;
        else Keypoints with the skeleton.
    """
    names = PersonKeypoints.NAMES
    is_person = len(names) == points.shape[1] if skeleton is None else names == skeleton.names
    if is_person:
        return PersonKeypoints(points, size)
    return Keypoints(points, size, skeleton)
