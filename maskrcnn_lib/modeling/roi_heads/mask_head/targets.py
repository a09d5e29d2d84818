"""The masks that the mask head should give, one per region."""

from typing import Literal

import torch
from torch import Tensor

from maskrcnn_lib.layers.mask_targets import bitmap_mask_targets, polygon_mask_targets
from maskrcnn_lib.layers.roi_align import roi_align
from maskrcnn_lib.modeling.box_coder import extend_boxes
from maskrcnn_lib.modeling.packed_masks import PackedMasks
from maskrcnn_lib.modeling.roi_heads.regions import Rows
from maskrcnn_lib.modeling.targets import Targets
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

# Bitmaps of whole images that are in memory at once.
_BITMAPS = 16

MaskTarget = Literal["raster", "roi_align"]


@torch.no_grad()
def mask_targets(
    targets: Targets,
    rows: Rows,
    resolution: int,
    *,
    method: MaskTarget,
    box_end_offset: float = 0.0,
) -> Tensor:
    """Cuts the mask of each region's object to the region, at the resolution M of the head.

    Args:
        targets: ground truth of the images, with masks.
        rows: K regions.
        resolution: M.
        method: ``"raster"``: polygons are moved and scaled to M x M and rasterised there, bitmaps
            are cut out and scaled: 0 or 1. ``"roi_align"``: RoIAlign of the image's bitmap: any
            share in 0..1; the host waits for the device.
        box_end_offset: added to x2 and y2 of the regions (``Dialect.box_end_offset``).

    Returns:
        (K, M, M) float32 on the device of ``rows``; zeros where a row is not valid.
    """
    boxes = extend_boxes(rows.rois[:, 1:], box_end_offset)
    images = rows.rois[:, 0].long()
    if targets.boxes.shape[1] == 0:
        return boxes.new_zeros((len(boxes), resolution, resolution))
    if method == "raster":
        return _rasterise(targets.packed_masks, images, rows, boxes, resolution).float()
    goal = torch.zeros((len(boxes), resolution, resolution))
    boxes, images, valid = boxes.cpu(), images.cpu(), rows.valid.cpu()
    matched = rows.matched.cpu()
    for index, masks in enumerate(targets.masks):
        wanted = ((images == index) & valid).nonzero().flatten()
        if len(wanted):
            goal[wanted] = _align(masks, matched[wanted], boxes[wanted], resolution)
    return goal.to(rows.rois.device)


def _rasterise(
    masks: PackedMasks, images: Tensor, rows: Rows, boxes: Tensor, resolution: int
) -> Tensor:
    """(K, M, M) bool: of an object that has polygons or a bitmap, the other operator gives none."""

    def instances(index: Tensor) -> Tensor:
        return torch.where(rows.valid, index[images, rows.matched], -1)

    goal = polygon_mask_targets(*masks.polygons, boxes, instances(masks.polygon_index), resolution)
    if len(masks.bitmaps) == 0:
        return goal
    of_bitmaps = instances(masks.bitmap_index)
    return goal | bitmap_mask_targets(masks.bitmaps, boxes, of_bitmaps, resolution)


def _align(masks: SegmentationMask, matched: Tensor, boxes: Tensor, resolution: int) -> Tensor:
    """RoIAlign of an image's bitmaps, a few objects at a time."""
    goal = torch.empty((len(boxes), resolution, resolution))
    for some in matched.unique().split(_BITMAPS):
        bitmaps = masks[some].get_mask_tensor().cpu()[:, None].float()
        wanted = torch.isin(matched, some).nonzero().flatten()
        positions = torch.searchsorted(some, matched[wanted])
        rois = torch.cat((positions[:, None].float(), boxes[wanted]), dim=1)
        goal[wanted] = roi_align(bitmaps, rois, (resolution, resolution), 1.0, 0)[:, 0]
    return goal
