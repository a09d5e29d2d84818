"""Operators and small layers, under the names that maskrcnn-benchmark's users know.

A function whose module bears its name is imported here at once: a lazy name would give the module
as soon as somebody imports that. All modules below are cheap; the compiled library loads on first
use of an operator.
"""

from maskrcnn_lib.layers.batch_norm import FrozenBatchNorm2d
from maskrcnn_lib.layers.deform_conv import DFConv2d
from maskrcnn_lib.layers.giou_loss import giou_loss
from maskrcnn_lib.layers.heat_map_peaks import heat_map_peaks
from maskrcnn_lib.layers.mask_targets import bitmap_mask_targets, polygon_mask_targets
from maskrcnn_lib.layers.misc import BatchNorm2d, Conv2d, ConvTranspose2d, interpolate
from maskrcnn_lib.layers.multilevel_roi_align import multilevel_roi_align
from maskrcnn_lib.layers.nms import batched_nms, batched_nms_fixed, nms
from maskrcnn_lib.layers.paste_masks import bitmaps_to_rle, masks_to_rle, paste_masks
from maskrcnn_lib.layers.ps_roi_pool import PSROIAlign, PSROIPool, ps_roi_align, ps_roi_pool
from maskrcnn_lib.layers.roi_align import ROIAlign, roi_align
from maskrcnn_lib.layers.sigmoid_focal_loss import SigmoidFocalLoss, sigmoid_focal_loss
from maskrcnn_lib.layers.smooth_l1_loss import smooth_l1_loss
from maskrcnn_lib.layers.soft_nms import soft_nms_fixed

__all__ = [
    "BatchNorm2d",
    "Conv2d",
    "ConvTranspose2d",
    "DFConv2d",
    "FrozenBatchNorm2d",
    "PSROIAlign",
    "PSROIPool",
    "ROIAlign",
    "SigmoidFocalLoss",
    "batched_nms",
    "batched_nms_fixed",
    "bitmap_mask_targets",
    "bitmaps_to_rle",
    "giou_loss",
    "heat_map_peaks",
    "interpolate",
    "masks_to_rle",
    "multilevel_roi_align",
    "nms",
    "paste_masks",
    "polygon_mask_targets",
    "ps_roi_align",
    "ps_roi_pool",
    "roi_align",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "soft_nms_fixed",
]
