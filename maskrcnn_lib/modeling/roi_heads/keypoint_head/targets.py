"""Where in the heat maps of each region the keypoints of its object lie."""

import torch
from torch import Tensor

from maskrcnn_lib.modeling.box_coder import extend_boxes
from maskrcnn_lib.modeling.roi_heads.regions import Rows
from maskrcnn_lib.modeling.targets import Targets


def keypoint_targets(
    targets: Targets,
    rows: Rows,
    resolution: int,
    *,
    box_end_offset: float = 0.0,
    needs_point_in_object: bool = False,
) -> tuple[Tensor, Tensor]:
    """The cell of each keypoint in its heat map, and which keypoints teach something.

    Those do that are labelled, whether visible or hidden, and lie in the region.

    Args:
        targets: ground truth of the images, with keypoints.
        rows: K regions.
        resolution: M, side of the heat maps.
        box_end_offset: added to x2 and y2 of regions and objects (``Dialect.box_end_offset``).
            Half of it is added to the points: toolboxes whose boxes end with the index of a pixel
            place points by indices as well, half a pixel before its middle.
        needs_point_in_object: whether objects teach nothing none of whose labelled keypoints lies
            in the object's own box (``Dialect.keypoint_in_object``).

    Returns:
        (K, P) int64 cell, row * M + column, and (K, P) bool, for P keypoints.
    """
    points_per_object = targets.keypoints.shape[2]
    regions = extend_boxes(rows.rois[:, 1:], box_end_offset)
    if targets.boxes.shape[1] == 0:
        cells = torch.zeros((len(regions), points_per_object), dtype=torch.int64)
        cells = cells.to(regions.device)
        return cells, cells.bool()
    which = rows.rois[:, 0].long() * targets.boxes.shape[1] + rows.matched  # (K,)
    keypoints = targets.keypoints.flatten(0, 1)[which]  # (K, P, 3)
    points = keypoints[..., :2] + box_end_offset / 2
    labelled = (keypoints[..., 2] > 0) & rows.valid[:, None]
    if needs_point_in_object:
        objects = extend_boxes(targets.boxes.flatten(0, 1)[which], box_end_offset)
        labelled = labelled & _inside(points, objects).logical_and(labelled).any(1, keepdim=True)
    cells, inside = points_to_cells(points, regions, resolution)
    return cells, inside & labelled


def points_to_cells(points: Tensor, boxes: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Divides each box into M x M cells and finds those of its points.

    Args:
        points: (K, P, 2) x, y in pixels.
        boxes: (K, 4) xyxy in pixels; in one without width or height lies no point.
        resolution: M.

    Returns:
        (K, P) int64 cell, row * M + column, and (K, P) bool, whether the point lies in the box;
        its right and lower edge belong to the last cells. Outside, the cell is 0.
    """
    inside = _inside(points, boxes)
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    scale = resolution / (high - low)
    # Where a side is 0 the scale is infinite; no such cell is used.
    position = torch.where(inside[..., None], (points - low) * scale, 0.0)
    column, row = position.floor().long().clamp(max=resolution - 1).unbind(-1)
    return row * resolution + column, inside


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """(K, P) bool, whether points (K, P, 2) lie in boxes (K, 4) with an area, edges included."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    return ((points >= low) & (points <= high) & (high > low)).all(dim=-1)
