"""From detections on the resized image to detections on the original one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from maskrcnn_lib.config.dialects import Dialect
from maskrcnn_lib.structures.bounding_box import BoxList


def restore_original_size(
    detections: BoxList, original_size: tuple[int, int], dialect: Dialect
) -> BoxList:
    """Scales boxes and keypoints to the original image; all fields are kept.

    Masks stay M x M probabilities inside their boxes, so that nobody pays for pixels that are not
    asked for. Keypoints become COCO's, whose coordinates name a pixel.

    Args:
        detections: xyxy boxes in pixels of the resized image.
        original_size: (width, height).
        dialect: closed-pixel toolboxes scaled the index of a box's last pixel, not its edge, and
            that of a keypoint's pixel.
    """
    detections = detections.convert("xyxy")
    boxes = scale_boxes(
        detections.bbox, detections.size, original_size, end_offset=dialect.box_end_offset
    )
    restored = BoxList(boxes, original_size, mode="xyxy")
    for field in detections.fields():
        restored.add_field(field, detections.get_field(field))
    if detections.has_field("keypoints"):
        index = dialect.box_end_offset / 2
        points = detections.get_field("keypoints").shift(index, index).resize(original_size)
        back = -index - dialect.keypoint_offset
        restored.add_field("keypoints", points.shift(back, back))
    return restored


def scale_boxes(
    boxes: Tensor,
    old_size: tuple[float, float],
    new_size: tuple[float, float],
    *,
    end_offset: float,
) -> Tensor:
    """Boxes (..., 4) xyxy of an image when it gets another (width, height).

    Args:
        end_offset: ``Dialect.box_end_offset``, what is scaled of x2 and y2 lies there.
    """
    if old_size == new_size:
        return boxes
    ratio_x, ratio_y = (new / old for new, old in zip(new_size, old_size, strict=True))
    ratios = boxes.new_tensor([ratio_x, ratio_y, ratio_x, ratio_y])
    return rescale(boxes, ratios, (0.0, 0.0, end_offset, end_offset))


def rescale(coordinates: Tensor, ratios: Tensor, offsets: Sequence[float]) -> Tensor:
    """Coordinates (..., C) of an image when its size is multiplied.

    Args:
        ratios: (C,) new size over old size along the axis of each coordinate.
        offsets: C numbers, how far behind the coordinate lies the place that is scaled.
    """
    offset = coordinates.new_tensor(offsets)
    return (coordinates + offset) * ratios - offset


def keep_confident(detections: BoxList, threshold: float) -> BoxList:
    """Detections whose score exceeds ``threshold``, by descending score."""
    scores = detections.get_field("scores")
    order = torch.sort(scores, descending=True, stable=True).indices
    return detections[order[scores[order] > threshold]]
