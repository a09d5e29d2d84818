"""Random mirroring."""

import numpy as np

from maskrcnn_lib.structures.bounding_box import FLIP_LEFT_RIGHT, FLIP_TOP_BOTTOM, BoxList


class RandomFlip:
    """Mirrors image and objects left-right, top-bottom, both, or not at all.

    Args:
        horizontal: probability of left-right.
        vertical: probability of top-bottom.
    """

    def __init__(self, *, horizontal: float = 0.5, vertical: float = 0.0) -> None:
        self.horizontal = horizontal
        self.vertical = vertical

    def __call__(
        self, image: np.ndarray, target: BoxList, rng: np.random.Generator
    ) -> tuple[np.ndarray, BoxList]:
        if rng.random() < self.horizontal:
            image, target = image[:, ::-1], target.transpose(FLIP_LEFT_RIGHT)
        if rng.random() < self.vertical:
            image, target = image[::-1], target.transpose(FLIP_TOP_BOTTOM)
        return np.ascontiguousarray(image), target
