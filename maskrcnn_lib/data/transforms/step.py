"""What the steps of a training transform have in common."""

from typing import Protocol

import numpy as np

from maskrcnn_lib.structures.bounding_box import BoxList


class Step(Protocol):
    """Changes an image and its objects together, with randomness from ``rng`` alone.

    The image is (H, W, 3) uint8 RGB, the target a BoxList in its pixels; both come back, new or as
    they were, never changed in place.
    """

    def __call__(
        self, image: np.ndarray, target: BoxList, rng: np.random.Generator
    ) -> tuple[np.ndarray, BoxList]: ...
