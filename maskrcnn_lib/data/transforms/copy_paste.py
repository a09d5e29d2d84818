"""Objects of one image pasted into another (Ghiasi et al., Simple Copy-Paste, CVPR 2021)."""

import numpy as np
import torch

from maskrcnn_lib.data.transforms.crop import visible_boxes
from maskrcnn_lib.data.transforms.flip import RandomFlip
from maskrcnn_lib.data.transforms.image_transform import resize_image
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.boxlist_ops import cat_boxlist
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

_KEEP_PROBABILITY = 0.5  # of each object to be pasted, as in the paper
_MIN_PIXELS = 10  # an object of which less stays visible is left out


class CopyPaste:
    """Pastes some objects of another image into this one, scaled, mirrored and moved at random.

    What is covered disappears from the masks below; their boxes shrink to what stays visible. The
    image is returned as it is where either has no masks.

    Args:
        probability: of pasting at all.
        scales: smallest and largest size of the other image, 1 being the one that just fits.
    """

    def __init__(self, *, probability: float, scales: tuple[float, float] = (0.5, 1.5)) -> None:
        self.probability = probability
        self.scales = scales

    def is_drawn(self, rng: np.random.Generator) -> bool:
        """Whether this sample gets objects of another one."""
        return rng.random() < self.probability

    def __call__(
        self,
        image: np.ndarray,
        target: BoxList,
        other_image: np.ndarray,
        other: BoxList,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, BoxList]:
        """Both images (H, W, 3) uint8, both targets in mode xyxy; returns new ones."""
        if not _can_be_joined(target, other):
            return image, target
        other_image, pasted = self._choose(other_image, other, rng)
        other_image, pasted = self._place(image.shape, other_image, pasted, rng)
        if not len(pasted):
            return image, target
        covers = pasted.get_field("masks").get_mask_tensor().any(dim=0)  # (H, W)
        image = np.where(covers.numpy()[..., None], other_image, image)
        if not len(target):
            return image, pasted
        mode = target.get_field("masks").mode
        pasted.add_field("masks", pasted.get_field("masks").convert(mode))
        return image, cat_boxlist([_cover(target, covers), pasted])

    def _choose(
        self, image: np.ndarray, target: BoxList, rng: np.random.Generator
    ) -> tuple[np.ndarray, BoxList]:
        """Some of the objects, at least one; mirrored or not."""
        chosen = rng.random(len(target)) < _KEEP_PROBABILITY
        chosen[rng.integers(len(target))] = True
        return RandomFlip()(image, target[torch.from_numpy(chosen)], rng)

    def _place(
        self,
        shape: tuple[int, ...],
        image: np.ndarray,
        target: BoxList,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, BoxList]:
        """The other image scaled and moved onto a black one of ``shape``, with its objects."""
        height, width = shape[:2]
        fit = min(height / image.shape[0], width / image.shape[1]) * rng.uniform(*self.scales)
        rows, columns = (max(1, round(side * fit)) for side in image.shape[:2])
        top, left = _offset(height, rows, rng), _offset(width, columns, rng)
        canvas = np.zeros(shape, dtype=np.uint8)
        inside = np.s_[max(-top, 0) : height - top, max(-left, 0) : width - left]
        visible = resize_image(image, (rows, columns))[inside]
        y, x = max(top, 0), max(left, 0)
        canvas[y : y + visible.shape[0], x : x + visible.shape[1]] = visible
        moved = target.resize((columns, rows)).crop((-left, -top, width - left, height - top))
        return canvas, _tightened(moved)


def _can_be_joined(target: BoxList, other: BoxList) -> bool:
    """Whether there is something to paste, and both have masks and the same other fields."""
    if not len(other) or not other.has_field("masks"):
        return False
    return not len(target) or set(target.fields()) == set(other.fields())


def _offset(length: int, other: int, rng: np.random.Generator) -> int:
    """Where the other image starts, so that one of the two lies inside the other."""
    low, high = sorted((0, length - other))
    return int(rng.integers(low, high + 1))


def _tightened(target: BoxList) -> BoxList:
    """Boxes around the visible part of the masks; objects of which too little shows are dropped."""
    target.bbox = visible_boxes(target.get_field("masks"))
    width, height = (target.bbox[:, 2:] - target.bbox[:, :2]).unbind(1)
    return target[(width >= 1) & (height >= 1) & (width * height >= _MIN_PIXELS)]


def _cover(target: BoxList, covers: torch.Tensor) -> BoxList:
    """The objects below, without what (H, W) bool ``covers`` hides of them."""
    masks = target.get_field("masks")
    bitmaps = masks.get_mask_tensor()
    hidden = (bitmaps & covers).flatten(1).any(dim=1)
    remaining = SegmentationMask(bitmaps & ~covers, masks.size, "mask")
    result = target.copy_with_fields(target.fields())
    result.add_field("masks", _replace(masks, remaining, hidden))
    result.bbox = torch.where(hidden[:, None], visible_boxes(remaining), target.bbox)
    return result[~hidden | (remaining.get_mask_tensor().flatten(1).sum(dim=1) >= _MIN_PIXELS)]


def _replace(
    masks: SegmentationMask, remaining: SegmentationMask, hidden: torch.Tensor
) -> SegmentationMask:
    """``masks`` with those at ``hidden`` replaced; polygons that nothing hides stay as they are."""
    if masks.mode == "mask":
        return remaining
    order = torch.argsort(torch.cat((hidden.nonzero(), (~hidden).nonzero())).squeeze(1))
    return SegmentationMask.cat([remaining[hidden].convert("poly"), masks[~hidden]])[order]
