"""Annotated images, and pages of several images."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from maskrcnn_lib.config.dialects import DEFAULT_PASTE, PasteRule
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.visualization.colors import instance_colors
from maskrcnn_lib.visualization.crops import instance_crops
from maskrcnn_lib.visualization.draw import (
    draw_boxes,
    draw_masks,
    draw_skeletons,
    largest_first,
)
from maskrcnn_lib.visualization.labels import draw_labels

_MARGIN = 4  # pixels between the images of a page
_PAPER = 255


def draw_target(
    image: np.ndarray, target: BoxList, class_names: Sequence[str], *, size: int = 0
) -> np.ndarray:
    """An image with its annotated objects.

    Args:
        image: (H, W, 3) uint8 RGB.
        target: with field ``labels`` and optionally ``masks`` and ``keypoints``; boxes in pixels
            of the image.
        class_names: by label, index 0 the background; labels beyond it are written as numbers.
        size: longer side of the result; 0: as large as the image.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    image, target = _resized(image, target.convert("xyxy"), size)
    labels = target.get_field("labels").tolist()
    names = [class_names[i] if i < len(class_names) else str(i) for i in labels]
    crops = None
    if target.has_field("masks"):
        crops = ((m.get_mask_tensor()[0].numpy(), (0, 0)) for m in target.get_field("masks"))
    return _draw_objects(image, target, names, crops)


def draw_found(
    image: np.ndarray,
    found: BoxList,
    class_names: Sequence[str],
    *,
    paste: PasteRule = DEFAULT_PASTE,
    size: int = 0,
) -> np.ndarray:
    """An image with what a model found on it.

    Args:
        image: (H, W, 3) uint8 RGB.
        found: with fields ``labels``, ``scores`` and optionally ``mask`` and ``keypoints``.
        class_names: by label, index 0 the background.
        paste: the detector's ``paste_rule``.
        size: longer side of the result; 0: as large as the image.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    image, found = _resized(image, found.convert("xyxy"), size)
    labels, scores = found.get_field("labels").tolist(), found.get_field("scores").tolist()
    texts = [f"{class_names[i]} {score:.2f}" for i, score in zip(labels, scores, strict=True)]
    crops = instance_crops(found, paste=paste) if found.has_field("mask") else None
    return _draw_objects(image, found, texts, crops)


def _resized(image: np.ndarray, objects: BoxList, size: int) -> tuple[np.ndarray, BoxList]:
    """Both with a longer side of ``size``, if that is not 0; the largest object first."""
    import cv2

    if size:
        scale = size / max(image.shape[:2])
        shape = [max(1, round(side * scale)) for side in (image.shape[1], image.shape[0])]
        # averaging for smaller, interpolating for larger ones
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image, objects = cv2.resize(image, shape, interpolation=method), objects.resize(shape)
    return image, objects[largest_first(objects.bbox.numpy())]


def _draw_objects(
    image: np.ndarray,
    objects: BoxList,
    texts: Sequence[str],
    crops: Iterable[tuple[np.ndarray, tuple[int, int]]] | None,
) -> np.ndarray:
    """Masks, above them boxes, key points and labels of objects in the order of their sizes."""
    boxes = objects.bbox.numpy()
    colors = instance_colors(boxes)
    if crops is not None:
        image = draw_masks(image, crops, colors)
    image = draw_boxes(image, boxes, colors)
    if objects.has_field("keypoints"):
        image = draw_skeletons(image, objects.get_field("keypoints"), colors)
    return draw_labels(image, boxes, texts, colors)


def image_page(images: Sequence[np.ndarray], columns: int = 4) -> np.ndarray:
    """Several images in rows on white, each in the middle of a cell.

    Args:
        images: (h, w, 3) uint8 each, of any sizes; a cell is as large as the largest.
        columns: cells per row.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: no image.
    """
    if not images:
        raise ValueError("a page needs at least one image")
    columns = min(columns, len(images))
    height = max(image.shape[0] for image in images) + _MARGIN
    width = max(image.shape[1] for image in images) + _MARGIN
    rows = math.ceil(len(images) / columns)
    page = np.full((rows * height + _MARGIN, columns * width + _MARGIN, 3), _PAPER, np.uint8)
    for index, image in enumerate(images):
        top = index // columns * height + _MARGIN + (height - _MARGIN - image.shape[0]) // 2
        left = index % columns * width + _MARGIN + (width - _MARGIN - image.shape[1]) // 2
        page[top : top + image.shape[0], left : left + image.shape[1]] = image
    return page
