"""Functions over BoxLists: suppression, filtering, overlap, joining."""

from collections.abc import Sequence

import torch
from torch import Tensor

from maskrcnn_lib.layers.nms import nms
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.instances import cat_fields


def boxlist_nms(
    boxlist: BoxList, nms_thresh: float, max_proposals: int = -1, score_field: str = "scores"
) -> BoxList:
    """Greedy non-maximum suppression: a box goes when its IoU with a better one is above a limit.

    Args:
        boxlist: boxes with a field of scores.
        nms_thresh: IoU limit; 0 or less: nothing is suppressed.
        max_proposals: keep at most this many, the best; 0 or less: all.
        score_field: name of the (N,) field with scores.

    Returns:
        The kept boxes by descending score, with their fields, in the mode of ``boxlist``.
        (maskrcnn-benchmark returned them in their old order, and all of them for a limit of 0.)

    Raises:
        KeyError: no such field.
    """
    scores = boxlist.get_field(score_field)
    if nms_thresh > 0:
        keep = nms(boxlist.convert("xyxy").bbox, scores, nms_thresh)
    else:
        keep = torch.argsort(scores, descending=True, stable=True)
    return boxlist[keep[:max_proposals] if max_proposals > 0 else keep]


def remove_small_boxes(boxlist: BoxList, min_size: float) -> BoxList:
    """The boxes whose width and height are at least ``min_size`` pixels."""
    width, height = boxlist.convert("xywh").bbox[:, 2:].unbind(1)
    return boxlist[(width >= min_size) & (height >= min_size)]


def pairwise_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Intersection over union of all pairs.

    Args:
        boxes1: (..., N, 4) xyxy.
        boxes2: (..., M, 4) xyxy.

    Returns:
        (..., N, M); 0 for two boxes without area.
    """
    x1, y1, x2, y2 = boxes1.unsqueeze(-2).unbind(-1)  # (..., N, 1) each
    u1, v1, u2, v2 = boxes2.unsqueeze(-3).unbind(-1)  # (..., 1, M) each
    width = (torch.minimum(x2, u2) - torch.maximum(x1, u1)).clamp(min=0)
    height = (torch.minimum(y2, v2) - torch.maximum(y1, v1)).clamp(min=0)
    intersection = width * height
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - intersection
    return (intersection / union).nan_to_num_(0.0)  # where the union is 0, so is the intersection


def boxlist_iou(boxlist1: BoxList, boxlist2: BoxList) -> Tensor:
    """(N, M) intersection over union of the boxes of two lists over one image.

    Raises:
        ValueError: the image sizes differ.
    """
    if boxlist1.size != boxlist2.size:
        raise ValueError(
            f"boxes of one image expected, got images of size {boxlist1.size} and {boxlist2.size}"
        )
    return pairwise_iou(boxlist1.convert("xyxy").bbox, boxlist2.convert("xyxy").bbox)


def cat_boxlist(bboxes: Sequence[BoxList]) -> BoxList:
    """One BoxList with the boxes of all, in order; mask and key point fields are joined too.

    Raises:
        ValueError: nothing to join, or image sizes, modes or field names differ.
    """
    if not bboxes:
        raise ValueError("no BoxList to join")
    kinds = {(boxes.size, boxes.mode) for boxes in bboxes}
    if len(kinds) > 1:
        raise ValueError(f"BoxLists to join need one image size and mode, got {sorted(kinds)}")
    first = bboxes[0]
    result = BoxList(torch.cat([boxes.bbox for boxes in bboxes]), first.size, first.mode)
    result.extra_fields = cat_fields(bboxes)
    return result
