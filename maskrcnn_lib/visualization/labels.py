"""Labels of objects, where they hide each other and small objects least."""

from collections.abc import Sequence

import numpy as np

from maskrcnn_lib.visualization.fonts import label_font

_BRIGHT = 110  # weighed mean of a colour's channels from which on black letters read better
_NOT_THE_FIRST = 0.03  # what a place costs less than the one before it in the list
_ON_THE_OBJECT = 0.5  # what it costs to lie on the object, relative to the hidden part of it


def font_size(image: np.ndarray) -> int:
    """Pixels of a label's letters."""
    return max(10, round(min(image.shape[:2]) / 38))


def draw_labels(
    image: np.ndarray, boxes: np.ndarray, texts: Sequence[str], colors: np.ndarray
) -> np.ndarray:
    """Writes each text on a patch of its colour at a corner of its box.

    Args:
        image: (H, W, 3) uint8.
        boxes: (N, 4) xyxy in pixels.
        texts: N strings; the first ones choose their places first, and lie above the others.
        colors: (N, 3) uint8 of the patches; the letters are black or white, whichever reads better.
    """
    from PIL import Image, ImageDraw

    picture = Image.fromarray(image)
    canvas = ImageDraw.Draw(picture)
    font = label_font(texts, font_size(image))
    padding = max(1, font_size(image) // 6)
    extents = [canvas.textbbox((0, 0), text, font=font) for text in texts]
    inked = np.array(extents, dtype=np.float64).reshape(-1, 4)
    sizes = np.ceil(inked[:, 2:] - inked[:, :2]) + 2 * padding
    corners = place_labels(boxes, sizes, (image.shape[1], image.shape[0]))
    rows = list(zip(corners, sizes, inked, texts, colors.tolist(), strict=True))
    for (x, y), (width, height), (left, top, *_), text, color in reversed(rows):
        canvas.rectangle((x, y, x + width, y + height), fill=tuple(color))
        # green weighs most in what the eye sees, whether the image is RGB or BGR
        is_bright = 0.6 * color[1] + 0.2 * (color[0] + color[2]) > _BRIGHT
        ink = (0, 0, 0) if is_bright else (255, 255, 255)
        canvas.text((x + padding - left, y + padding - top), text, font=font, fill=ink)
    return np.array(picture)


def place_labels(boxes: np.ndarray, sizes: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Where labels hide each other least: each takes the best place that earlier ones leave it.

    Args:
        boxes: (N, 4) xyxy in pixels.
        sizes: (N, 2) width, height of the labels.
        image_size: (width, height); labels stay inside if they fit.

    Returns:
        (N, 2) float64 x, y of the upper left corners, whole numbers.
    """
    placed = np.zeros((len(boxes), 4))
    limits = np.array(image_size, dtype=np.float64)
    for i, (box, size) in enumerate(zip(boxes.astype(np.float64), sizes, strict=True)):
        corners = np.clip(_places(box, size), 0, np.maximum(0, limits - size - 1)).round()
        labels = np.concatenate([corners, corners + size], axis=1)  # (places, 4)
        hidden = _common_area(labels, placed[:i]).sum(axis=1) / size.prod()
        of_object = _common_area(labels, box[None])[:, 0] / max(1.0, (box[2:] - box[:2]).prod())
        cost = hidden + _ON_THE_OBJECT * of_object + _NOT_THE_FIRST * np.arange(len(labels))
        placed[i] = labels[cost.argmin()]
    return placed[:, :2]


def _places(box: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(P, 2) corners of a label around a box, and inside of it; the usual one first."""
    (x1, y1, x2, y2), (width, height) = box, size
    right = x2 - width + 1
    above, below, inside, at_foot = y1 - height, y2 + 1, y1, y2 - height
    pairs = [(x1, above), (x1, inside), (right, above), (x1, below), (right, inside)]
    pairs += [(right, below), (x2 + 1, inside), (x1 - width, inside), (x1, at_foot)]
    pairs += [(right, at_foot), ((x1 + right) / 2, (above + below) / 2)]
    return np.array(pairs)


def _common_area(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(A, B) pixels that boxes share."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return (high - low).clip(min=0).prod(axis=2)
