"""Where the points that annotations name lie within their pixels."""

import numpy as np

from maskrcnn_lib.structures.bounding_box import BoxList


class OffsetKeypoints:
    """Adds an offset to the keypoints of the objects, from the pixel that COCO names to a place.

    Args:
        offset: in pixels, the same for x and y; see ``Dialect.keypoint_offset``.
    """

    def __init__(self, offset: float) -> None:
        self.offset = offset

    def __call__(
        self, image: np.ndarray, target: BoxList, rng: np.random.Generator
    ) -> tuple[np.ndarray, BoxList]:
        if not target.has_field("keypoints"):
            return image, target
        moved = target[:]
        keypoints = target.get_field("keypoints")
        moved.add_field("keypoints", keypoints.shift(self.offset, self.offset))
        return image, moved
