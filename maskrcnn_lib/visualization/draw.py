"""Drawing boxes, masks and key points onto images, in sizes that fit the image.

All functions take an (H, W, 3) uint8 array and return a new one. Colours are given in the channel
order of the image, so RGB and BGR images work alike. Where things lie on each other, the last is
seen: :func:`largest_first` gives an order in which small ones are not hidden.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from maskrcnn_lib.structures.keypoint import Keypoints

MASK_OPACITY = 0.4
KEYPOINT_THRESHOLD = 2.0  # logit above which a key point is drawn
_SMALLEST_PERSON = 80  # widths of a skeleton's line that its longer side has at least
_DARK, _LIGHT = (0, 0, 0), (255, 255, 255)


def line_width(image: np.ndarray) -> int:
    """Pixels of a line that is clearly seen, and not coarse, on an image of this size."""
    return max(1, round(min(image.shape[:2]) / 250))


def largest_first(boxes: np.ndarray) -> np.ndarray:
    """(N,) int64 places of (N, 4) xyxy boxes by descending area."""
    return np.argsort(-(boxes[:, 2:] - boxes[:, :2]).prod(axis=1), kind="stable")


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
    levels = np.arange(256)[:, None, None]  # (256, 1, 1)
    for (crop, (left, top)), color in zip(crops, colors, strict=True):
        if not crop.any():
            continue
        window = drawn[top : top + crop.shape[0], left : left + crop.shape[1]]
        tints = np.round(levels * (1 - opacity) + color * opacity).astype(np.uint8)
        np.copyto(window, cv2.LUT(window, tints), where=crop[..., None])
        outlines, _ = cv2.findContours(
            crop.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(left, top)
        )
        cv2.drawContours(drawn, outlines, -1, color.tolist(), line_width(image), cv2.LINE_AA)
    return drawn


def draw_skeletons(image: np.ndarray, keypoints: Keypoints, colors: np.ndarray) -> np.ndarray:
    """Draws the key points that a target or a detector gives, of the latter the sure ones.

    Args:
        keypoints: N objects; a detector's have a field ``logits``.
        colors: (N, 3) uint8.
    """
    logits = keypoints.get_field("logits") if keypoints.has_field("logits") else None
    return draw_keypoints(
        image,
        keypoints.keypoints.cpu().numpy(),
        keypoints.CONNECTIONS,
        colors,
        scores=None if logits is None else logits.cpu().numpy(),
    )


def draw_keypoints(
    image: np.ndarray,
    keypoints: np.ndarray,
    connections: Sequence[tuple[int, int]],
    colors: np.ndarray,
    *,
    scores: np.ndarray | None = None,
    threshold: float = KEYPOINT_THRESHOLD,
) -> np.ndarray:
    """Draws skeletons: lines with a dark rim, and light dots at the points.

    Args:
        keypoints: (N, K, 3) x, y in pixels, and visibility; invisible points (0) are left out.
        connections: pairs of keypoint indices that a line joins.
        colors: (N, 3) uint8.
        scores: (N, K) logits; points at or below ``threshold`` are left out.
    """
    import cv2

    drawn = image.copy()
    shown = keypoints[..., 2] > 0
    if scores is not None:
        shown &= scores > threshold
    places = np.round(keypoints[..., :2]).astype(int)
    for points, visible, color in zip(places, shown, colors.tolist(), strict=True):
        if not visible.any():
            continue
        side = int(np.ptp(points[visible], axis=0).max())
        width = max(1, min(line_width(image), side // _SMALLEST_PERSON))
        rim = width // 2
        lines = [
            (tuple(points[start].tolist()), tuple(points[end].tolist()))
            for start, end in connections
            if visible[start] and visible[end]
        ]
        for paint, thickness in ((_DARK, width + 2 * rim), (color, width)):
            for line in lines:
                cv2.line(drawn, *line, paint, thickness, cv2.LINE_AA)
        for point in points[visible].tolist():
            for paint, radius in ((_DARK, width + rim), (_LIGHT, width)):
                cv2.circle(drawn, tuple(point), radius, paint, -1, cv2.LINE_AA)
    return drawn
