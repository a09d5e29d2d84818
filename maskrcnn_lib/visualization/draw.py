"""Drawing boxes, masks and labels onto images, in sizes that fit the image.

All functions take an (H, W, 3) uint8 array and return a new one. Colours are given in the channel
order of the image, so RGB and BGR images work alike.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from maskrcnn_lib.visualization.colors import class_colors

MASK_OPACITY = 0.4


def line_width(image: np.ndarray) -> int:
    """Pixels of a line that is clearly seen, and not coarse, on an image of this size."""
    return max(1, round(min(image.shape[:2]) / 300))


def font_size(image: np.ndarray) -> int:
    """Pixels of a label's letters."""
    return max(10, round(min(image.shape[:2]) / 38))


def draw_boxes(image: np.ndarray, boxes: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Draws rectangles.

    Args:
        boxes: (N, 4) xyxy in pixels.
        colors: (N, 3) uint8.
    """
    import cv2

    drawn = image.copy()
    for box, color in zip(np.round(boxes).astype(int).tolist(), colors.tolist(), strict=True):
        corner, opposite = tuple(box[:2]), tuple(box[2:])
        cv2.rectangle(drawn, corner, opposite, color, line_width(image), cv2.LINE_AA)
    return drawn


def draw_masks(
    image: np.ndarray,
    crops: Iterable[tuple[np.ndarray, tuple[int, int]]],
    colors: np.ndarray,
    *,
    opacity: float = MASK_OPACITY,
) -> np.ndarray:
    """Tints each instance and draws its outline.

    Args:
        crops: per instance an (h, w) bool bitmap and the (x, y) of its corner in the image, as
            :func:`maskrcnn_lib.visualization.crops.instance_crops` yields them.
        colors: (N, 3) uint8.
        opacity: of the tint; 0 leaves only outlines.
    """
    import cv2

    drawn = image.copy()
    for (crop, (left, top)), color in zip(crops, colors, strict=True):
        if not crop.any():
            continue
        window = drawn[top : top + crop.shape[0], left : left + crop.shape[1]]
        tinted = window[crop] * (1 - opacity) + color * opacity
        window[crop] = np.round(tinted).astype(np.uint8)
        outlines, _ = cv2.findContours(
            crop.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(left, top)
        )
        cv2.drawContours(drawn, outlines, -1, color.tolist(), line_width(image), cv2.LINE_AA)
    return drawn


def draw_labels(
    image: np.ndarray, boxes: np.ndarray, texts: Sequence[str], colors: np.ndarray
) -> np.ndarray:
    """Writes each text on a patch of its colour above its box, or inside where there is no room.

    Args:
        boxes: (N, 4) xyxy in pixels.
        texts: N strings.
        colors: (N, 3) uint8 of the patches; the letters are black or white, whichever reads better.
    """
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(image)
    canvas = ImageDraw.Draw(picture)
    font = ImageFont.load_default(font_size(image))
    padding = max(1, font_size(image) // 6)
    for box, text, color in zip(boxes.tolist(), texts, colors.tolist(), strict=True):
        left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
        width, height = right - left + 2 * padding, bottom - top + 2 * padding
        x = min(max(0, int(box[0])), max(0, image.shape[1] - int(width)))
        y = int(box[1] - height) if box[1] >= height else max(0, int(box[1]))
        canvas.rectangle((x, y, x + width, y + height), fill=tuple(color))
        ink = (0, 0, 0) if sum(color) > 380 else (255, 255, 255)
        canvas.text((x + padding - left, y + padding - top), text, font=font, fill=ink)
    return np.array(picture)


def draw_keypoints(
    image: np.ndarray,
    keypoints: np.ndarray,
    connections: Sequence[tuple[int, int]],
    *,
    scores: np.ndarray | None = None,
    threshold: float = 2.0,
) -> np.ndarray:
    """Draws skeletons.

    Args:
        keypoints: (N, K, 3) x, y in pixels, and visibility; invisible points (0) are left out.
        connections: pairs of keypoint indices that a line joins.
        scores: (N, K) logits; points at or below ``threshold`` are left out.
    """
    import cv2

    drawn = image.copy()
    shown = keypoints[..., 2] > 0
    if scores is not None:
        shown &= scores > threshold
    colors = class_colors(np.arange(len(connections)))
    for points, visible in zip(np.round(keypoints[..., :2]).astype(int), shown, strict=True):
        for (start, end), color in zip(connections, colors.tolist(), strict=True):
            if visible[start] and visible[end]:
                ends = tuple(points[start].tolist()), tuple(points[end].tolist())
                cv2.line(drawn, *ends, color, line_width(image), cv2.LINE_AA)
        for point in points[visible].tolist():
            cv2.circle(drawn, tuple(point), line_width(image) + 1, (0, 0, 255), -1, cv2.LINE_AA)
    return drawn
