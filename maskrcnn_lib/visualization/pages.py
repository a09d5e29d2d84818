"""Annotated images, and pages of several images."""

import math
from collections.abc import Sequence

import numpy as np

from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.visualization.colors import class_colors
from maskrcnn_lib.visualization.draw import draw_boxes, draw_labels, draw_masks

_MARGIN = 4  # pixels between the images of a page
_PAPER = 255


def draw_target(
    image: np.ndarray, target: BoxList, class_names: Sequence[str], *, size: int = 0
) -> np.ndarray:
    """An image with its annotated objects.

    Args:
        image: (H, W, 3) uint8 RGB.
        target: with field ``labels`` and optionally ``masks``; boxes in pixels of the image.
        class_names: by label, index 0 the background; labels beyond it are written as numbers.
        size: longer side of the result; 0: as large as the image.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    import cv2

    target = target.convert("xyxy")
    if size:
        scale = size / max(image.shape[:2])
        shape = [max(1, round(side * scale)) for side in (image.shape[1], image.shape[0])]
        # averaging for smaller, interpolating for larger ones
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image, target = cv2.resize(image, shape, interpolation=method), target.resize(shape)
    labels = target.get_field("labels").numpy()
    colors, boxes = class_colors(labels), target.bbox.numpy()
    if target.has_field("masks"):
        bitmaps = (m.get_mask_tensor()[0].numpy() for m in target.get_field("masks"))
        image = draw_masks(image, ((bitmap, (0, 0)) for bitmap in bitmaps), colors)
    names = [class_names[i] if i < len(class_names) else str(i) for i in labels.tolist()]
    return draw_labels(draw_boxes(image, boxes, colors), boxes, names, colors)


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
