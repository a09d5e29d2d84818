"""From checked annotations to the BoxList of an image."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.keypoint import Skeleton, make_keypoints
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask


def build_target(
    objects: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    label_of: Mapping[int, int],
    *,
    with_masks: bool = True,
    keypoint_count: int = 0,
    skeleton: Skeleton | None = None,
) -> BoxList:
    """The objects of one image as boxes with fields.

    Args:
        objects: annotations as :class:`maskrcnn_lib.data.annotations.ValidContent` describes them,
            without crowd regions.
        size: (width, height) of the image.
        label_of: category id -> label.
        with_masks: add the masks where all objects have one.
        keypoint_count: keypoints of each object; 0: no keypoints. Objects without any get points
            that are not labelled.
        skeleton: names and connections of these; None where they are not known.

    Returns:
        Boxes xyxy inside the image, with ``labels`` (N,) int64 and, where they exist, ``masks``
        (SegmentationMask) and ``keypoints`` (PersonKeypoints for the 17 points of a
        person, also where no names are known; else Keypoints with their skeleton).
    """
    boxes = torch.tensor([o["bbox"] for o in objects], dtype=torch.float32).reshape(-1, 4)
    target = BoxList(boxes, size, mode="xywh").convert("xyxy").clip_to_image(remove_empty=False)
    labels = [label_of[o["category_id"]] for o in objects]
    target.add_field("labels", torch.tensor(labels, dtype=torch.int64))
    if with_masks and all("segmentation" in o for o in objects):
        masks = SegmentationMask([o["segmentation"] for o in objects], size)
        target.add_field("masks", masks)
    if keypoint_count:
        unlabelled = [0.0] * (3 * keypoint_count)
        points = torch.tensor([o.get("keypoints", unlabelled) for o in objects])
        points = points.reshape(-1, keypoint_count, 3)
        target.add_field("keypoints", make_keypoints(points, size, skeleton))
    return target
