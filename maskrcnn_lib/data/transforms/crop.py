"""Cutting a window out of an image together with its objects."""

import numpy as np
import torch
from torch import Tensor

from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.polygons import clip_polygon
from maskrcnn_lib.structures.segmentation_mask import BinaryMaskList, SegmentationMask

_MIN_SIDE = 1.0  # pixels; what remains narrower or lower of an object is no object any more
_MAX_TRIES = 10


def crop_sample(
    image: np.ndarray, target: BoxList, window: tuple[int, int, int, int]
) -> tuple[np.ndarray, BoxList]:
    """The part of an image inside a window, with the objects that are visible there.

    Args:
        image: (H, W, 3).
        target: its objects, in mode xyxy.
        window: x1, y1, x2, y2 in whole pixels, inside the image.
    """
    x1, y1, x2, y2 = window
    return np.ascontiguousarray(image[y1:y2, x1:x2]), crop_objects(target, window)


def crop_objects(target: BoxList, window: tuple[int, int, int, int]) -> BoxList:
    """The objects that are visible inside a window.

    The box of an object that the window cuts is tightened to the visible part of its mask. Objects
    of which less than one pixel of width or height remains, or no part of the mask, are left out.

    Args:
        target: objects in mode xyxy.
        window: x1, y1, x2, y2 in whole pixels; it may reach beyond the image.
    """
    limits = torch.tensor(window, dtype=torch.float32)
    is_cut = ((target.bbox[:, :2] < limits[:2]) | (target.bbox[:, 2:] > limits[2:])).any(dim=1)
    kept = ~is_cut | _is_object(target.copy_with_fields([]).crop(window).bbox)
    after, is_cut = target[kept].crop(window), is_cut[kept]
    if after.has_field("masks") and is_cut.any():
        visible = visible_boxes(after.get_field("masks")[is_cut])
        after.bbox[is_cut] = intersect(after.bbox[is_cut], visible)
        after = after[~is_cut | _is_object(after.bbox)]
    return after


def _is_object(boxes: Tensor) -> Tensor:
    """(N,) bool of (N, 4) xyxy boxes."""
    return (boxes[:, 2:] - boxes[:, :2] >= _MIN_SIDE).all(dim=1)


def intersect(boxes: Tensor, others: Tensor) -> Tensor:
    """(N, 4) what two lists of xyxy boxes have in common, pair by pair; empty boxes of size 0."""
    corner = torch.maximum(boxes[:, :2], others[:, :2])
    return torch.cat((corner, torch.maximum(torch.minimum(boxes[:, 2:], others[:, 2:]), corner)), 1)


def visible_boxes(masks: SegmentationMask) -> Tensor:
    """Boxes around what the masks show inside their image.

    Of a polygon that bends around a corner of the image, the box may be a little too large.

    Returns:
        (N, 4) float32 xyxy; zeros for a mask that shows nothing.
    """
    if isinstance(masks.instances, BinaryMaskList):
        return _boxes_of_bitmaps(masks.instances.masks)
    boxes = torch.zeros((len(masks), 4))
    for box, instance in zip(boxes, masks.instances.polygons, strict=True):
        polygons = (polygon.numpy().reshape(-1, 2) for polygon in instance.polygons)
        parts = [clip_polygon(polygon, (0, 0), masks.size) for polygon in polygons]
        points = np.concatenate([*parts, np.empty((0, 2))])
        if len(points):
            box.copy_(torch.from_numpy(np.concatenate((points.min(axis=0), points.max(axis=0)))))
    return boxes


def _boxes_of_bitmaps(masks: Tensor) -> Tensor:
    """(N, H, W) bool to (N, 4) float32 xyxy."""
    boxes = torch.zeros((len(masks), 4))
    for box, mask in zip(boxes, masks, strict=True):
        columns, rows = mask.any(dim=0).nonzero(), mask.any(dim=1).nonzero()
        if len(columns):
            box.copy_(torch.stack((columns[0, 0], rows[0, 0], columns[-1, 0] + 1, rows[-1, 0] + 1)))
    return boxes


class RandomCrop:
    """Cuts a random window out of the image; one that shows no object is drawn again.

    Args:
        probability: of cropping at all.
        min_share: smallest share of width and of height that is kept; both are drawn.
    """

    def __init__(self, *, probability: float, min_share: float) -> None:
        self.probability = probability
        self.min_share = min_share

    def __call__(
        self, image: np.ndarray, target: BoxList, rng: np.random.Generator
    ) -> tuple[np.ndarray, BoxList]:
        if rng.random() >= self.probability:
            return image, target
        for _ in range(_MAX_TRIES):
            cropped = crop_sample(image, target, self._window(image.shape, rng))
            if len(cropped[1]) or not len(target):
                return cropped
        return image, target

    def _window(
        self, shape: tuple[int, ...], rng: np.random.Generator
    ) -> tuple[int, int, int, int]:
        height, width = (max(1, round(side * rng.uniform(self.min_share, 1))) for side in shape[:2])
        return random_window(shape, height, width, rng)


def random_window(
    shape: tuple[int, ...], height: int, width: int, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of a window of a given size, anywhere inside a (H, W, ...) image."""
    y1 = int(rng.integers(shape[0] - height + 1))
    x1 = int(rng.integers(shape[1] - width + 1))
    return x1, y1, x1 + width, y1 + height
