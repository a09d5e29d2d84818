"""Heat maps: what the mask head believes, pixel by pixel."""

from collections.abc import Sequence

import numpy as np

from maskrcnn_lib.structures.bounding_box import BoxList

_IMAGE_SHARE = 0.4


def montage(tiles: Sequence[np.ndarray], per_row: int) -> np.ndarray:
    """Lays equally large (h, w) or (h, w, 3) uint8 tiles out in a square grid, filled with black.

    Raises:
        ValueError: there is no tile, or more than ``per_row`` squared.
    """
    if not tiles or len(tiles) > per_row**2:
        raise ValueError(f"a montage of {per_row} per row takes 1 to {per_row**2} tiles")
    blank = np.zeros_like(tiles[0])
    padded = [*tiles, *[blank] * (per_row**2 - len(tiles))]
    rows = [np.concatenate(padded[i : i + per_row], axis=1) for i in range(0, per_row**2, per_row)]
    return np.concatenate(rows, axis=0)


def heat_map(values: np.ndarray) -> np.ndarray:
    """Colours probabilities from blue (0) over green to red (1), the "jet" map.

    Args:
        values: (h, w) float in 0..1.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    # each channel is a trapezoid of the value (Matlab's definition of jet)
    centres = np.array([0.75, 0.5, 0.25])
    channels = 1.5 - 4.0 * np.abs(values[..., None] - centres)
    return np.round(np.clip(channels, 0.0, 1.0) * 255).astype(np.uint8)


def mask_montage(image: np.ndarray, predictions: BoxList, per_row: int) -> np.ndarray:
    """Heat maps of the first masks over the darkened image, side by side.

    Args:
        image: (H, W, 3) uint8; shown in grey.
        predictions: with field ``mask``: (N, 1, M, M) probabilities inside the boxes, or
            (N, 1, H, W) bitmaps.
        per_row: rows and columns of the montage; ``per_row`` squared masks are shown.

    Returns:
        About (H, W, 3) uint8 RGB; black where there are fewer masks.
    """
    import cv2

    height, width = max(1, image.shape[0] // per_row), max(1, image.shape[1] // per_row)
    grey = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).mean(-1, keepdims=True)
    scale = np.array([width / image.shape[1], height / image.shape[0]] * 2)
    tiles = [
        np.round(heat_map(values) * (1 - _IMAGE_SHARE) + grey * _IMAGE_SHARE).astype(np.uint8)
        for values in _tile_values(predictions[: per_row**2], scale, (height, width))
    ]
    return montage(tiles or [np.zeros((height, width, 3), np.uint8)], per_row)


def _tile_values(
    predictions: BoxList, scale: np.ndarray, size: tuple[int, int]
) -> list[np.ndarray]:
    """Each mask's values on the (h, w) tile; ``scale`` brings xyxy boxes to the tile."""
    import cv2

    whole = not predictions.get_field("mask").is_floating_point()
    masks = predictions.get_field("mask")[:, 0].float().cpu().numpy()
    boxes = predictions.convert("xyxy").bbox.cpu().numpy() * scale
    tiles = []
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        if whole:
            tiles.append(cv2.resize(mask, size[::-1], interpolation=cv2.INTER_AREA))
            continue
        # maps the tile's pixel centres onto the mask's, zero outside the box
        step_x, step_y = mask.shape[1] / max(x2 - x1, 1e-3), mask.shape[0] / max(y2 - y1, 1e-3)
        shift = [(0.5 - x1) * step_x - 0.5, (0.5 - y1) * step_y - 0.5]
        inverse = np.array([[step_x, 0, shift[0]], [0, step_y, shift[1]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        tiles.append(cv2.warpAffine(mask, inverse, size[::-1], flags=flags))
    return tiles
