"""The masks that the mask head should give, one per region."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from maskrcnn_lib.layers.roi_align import roi_align
from maskrcnn_lib.modeling.roi_heads.regions import Rows
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

# Regions narrower or lower than this are widened to it, in pixels.
_SMALLEST_SIDE = 1.0
# Bitmaps of whole images that are in memory at once.
_BITMAPS = 16

MaskTarget = Literal["raster", "roi_align"]


@torch.no_grad()
def mask_targets(
    masks: Sequence[SegmentationMask],
    rows: Rows,
    resolution: int,
    *,
    method: MaskTarget,
    box_end_offset: float = 0.0,
) -> Tensor:
    """Cuts the mask of each region's object to the region, at the resolution M of the head.

    Args:
        masks: per image the masks of its objects.
        rows: K regions.
        resolution: M.
        method: ``"raster"``: polygons are moved and scaled to M x M and rasterised there, bitmaps
            are cut out and scaled: 0 or 1. ``"roi_align"``: RoIAlign of the image's bitmap: any
            share in 0..1.
        box_end_offset: added to x2 and y2 of the regions (``Dialect.box_end_offset``).

    Returns:
        (K, M, M) float32 on the device of ``rows``; zeros where a row is not valid.
    """
    rois = rows.rois.cpu()
    ends = torch.maximum(rois[:, 3:] + box_end_offset, rois[:, 1:3] + _SMALLEST_SIDE)
    boxes = torch.cat((rois[:, 1:3], ends), dim=1)
    matched = rows.matched.cpu()
    goal = torch.zeros((len(rois), resolution, resolution))
    cut = _rasterise if method == "raster" else _align
    images = rois[:, 0].long()
    valid = rows.valid.cpu()
    for index, of_image in enumerate(masks):
        wanted = ((images == index) & valid).nonzero().flatten()
        if len(wanted):
            goal[wanted] = cut(of_image, matched[wanted], boxes[wanted], resolution)
    return goal.to(rows.rois.device)


def _rasterise(masks: SegmentationMask, matched: Tensor, boxes: Tensor, resolution: int) -> Tensor:
    cut = [
        masks[index].crop(box).resize((resolution, resolution)).get_mask_tensor()
        for index, box in zip(matched.tolist(), boxes.tolist(), strict=True)
    ]
    return torch.cat(cut).cpu().float()


def _align(masks: SegmentationMask, matched: Tensor, boxes: Tensor, resolution: int) -> Tensor:
    goal = torch.empty((len(boxes), resolution, resolution))
    for some in matched.unique().split(_BITMAPS):
        bitmaps = masks[some].get_mask_tensor().cpu()[:, None].float()
        wanted = torch.isin(matched, some).nonzero().flatten()
        rois = torch.cat(
            (torch.searchsorted(some, matched[wanted])[:, None].float(), boxes[wanted]), dim=1
        )
        goal[wanted] = roi_align(bitmaps, rois, (resolution, resolution), 1.0, 0)[:, 0]
    return goal
