"""From detections on the resized image to detections on the original one."""

import torch

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
    ratio_x = original_size[0] / detections.size[0]
    ratio_y = original_size[1] / detections.size[1]
    boxes = detections.bbox
    offset = boxes.new_tensor([0.0, 0.0, dialect.box_end_offset, dialect.box_end_offset])
    ratios = boxes.new_tensor([ratio_x, ratio_y, ratio_x, ratio_y])
    restored = BoxList((boxes + offset) * ratios - offset, original_size, mode="xyxy")
    for field in detections.fields():
        restored.add_field(field, detections.get_field(field))
    if detections.has_field("keypoints"):
        index = dialect.box_end_offset / 2
        points = detections.get_field("keypoints").shift(index, index).resize(original_size)
        back = -index - dialect.keypoint_offset
        restored.add_field("keypoints", points.shift(back, back))
    return restored


def keep_confident(detections: BoxList, threshold: float) -> BoxList:
    """Detections whose score exceeds ``threshold``, by descending score."""
    scores = detections.get_field("scores")
    order = torch.sort(scores, descending=True, stable=True).indices
    return detections[order[scores[order] > threshold]]
