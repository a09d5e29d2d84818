"""From heat maps to keypoints, under each toolbox's conventions."""

from torch import Tensor

from maskrcnn_lib.layers.heat_map_peaks import heat_map_peaks
from maskrcnn_lib.modeling.box_coder import extend_boxes


def locate_keypoints(logits: Tensor, boxes: Tensor, *, box_end_offset: float = 0.0) -> Tensor:
    """Takes the highest place of each heat map, resized to its box.

    Args:
        logits: (R, P, M, M).
        boxes: (R, 4) xyxy in pixels.
        box_end_offset: added to x2 and y2 of the boxes (``Dialect.box_end_offset``); half of it is
            the difference between the places found and those returned, see ``keypoint_targets``.

    Returns:
        (R, P, 3) float32: x, y in pixels, and the logit there.
    """
    peaks = heat_map_peaks(logits.float(), extend_boxes(boxes, box_end_offset))
    return peaks - peaks.new_tensor([box_end_offset / 2, box_end_offset / 2, 0.0])
