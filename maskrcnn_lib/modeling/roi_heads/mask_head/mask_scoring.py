"""Mask Scoring R-CNN: a head that says how well a mask will fit, whatever the class's score
(Huang et al. 2019, arXiv:1903.00241). Layers and losses are mmdetection's.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from yacs.config import CfgNode

from maskrcnn_lib.modeling.losses import LossSum, at_least_float32
from maskrcnn_lib.modeling.make_layers import init_kaiming_normal, make_conv, make_fc
from maskrcnn_lib.modeling.outputs import Detections
from maskrcnn_lib.modeling.poolers import boxes_to_rois
from maskrcnn_lib.modeling.roi_heads.mask_head.loss import mask_loss
from maskrcnn_lib.modeling.roi_heads.mask_head.mask_head import ROIMaskHead, build_roi_mask_head
from maskrcnn_lib.modeling.roi_heads.mask_head.roi_mask_feature_extractors import (
    MaskRCNNFPNFeatureExtractor,
)
from maskrcnn_lib.modeling.roi_heads.mask_head.targets import mask_targets
from maskrcnn_lib.modeling.roi_heads.regions import Rows
from maskrcnn_lib.modeling.targets import Targets

_CONVS, _WIDTH, _HIDDEN = 4, 256, 1024
_LOSS_WEIGHT = 0.5
_THRESHOLD = 0.5  # a pixel above belongs to the mask


class MaskIoUHead(nn.Module):
    """IoU that a region's mask will have with its object, one number per class.

    Args:
        in_channels: of a region's features.
        side: of a region's features in cells; masks are twice as wide.
        num_classes: classes with background, which is class 0.
    """

    def __init__(self, in_channels: int, side: int, num_classes: int) -> None:
        super().__init__()
        widths = [in_channels + 1, *[_WIDTH] * _CONVS]
        self.convs = nn.ModuleList(
            make_conv(
                widths[i], _WIDTH, stride=2 if i == _CONVS - 1 else 1, init=init_kaiming_normal
            )
            for i in range(_CONVS)
        )
        flat = _WIDTH * ((side + 1) // 2) ** 2
        self.fcs = nn.ModuleList([make_fc(flat, _HIDDEN), make_fc(_HIDDEN, _HIDDEN)])
        self.fc_mask_iou = nn.Linear(_HIDDEN, num_classes)
        nn.init.normal_(self.fc_mask_iou.weight, std=0.01)
        nn.init.zeros_(self.fc_mask_iou.bias)

    def forward(self, x: Tensor, mask_logits: Tensor, labels: Tensor) -> Tensor:
        """Returns (K,) the IoU in the region's class.

        Args:
            x: (K, in_channels, side, side) features, before the mask head's convolutions.
            mask_logits: (K, 2 * side, 2 * side) of the region's class.
            labels: (K,) int64.
        """
        masks = F.max_pool2d(mask_logits.sigmoid()[:, None], 2).to(x.dtype)
        x = torch.cat((x, masks), dim=1)
        for conv in self.convs:
            x = F.relu(conv(x))
        x = x.flatten(1)
        for fc in self.fcs:
            x = F.relu(fc(x))
        return self.fc_mask_iou(x).gather(1, labels[:, None])[:, 0]


class MaskScoringHead(ROIMaskHead):
    """A mask head with a ``MaskIoUHead``, whose detections have ``mask_scores`` of their own.

    Args:
        iou_head: rates the masks.
        feature_extractor, predictor, target, box_end_offset: as in ``ROIMaskHead``; the extractor
            is a ``MaskRCNNFPNFeatureExtractor``.
    """

    def __init__(
        self,
        feature_extractor: nn.Module,
        predictor: nn.Module,
        iou_head: MaskIoUHead,
        **settings: Any,
    ) -> None:
        super().__init__(feature_extractor, predictor, **settings)
        self.iou_head = iou_head

    def forward(self, features: Sequence[Tensor], detections: Detections) -> Detections:
        """Returns the detections with masks and ``mask_scores``, the box's score times the IoU."""
        x = self._extract(features, boxes_to_rois(detections.boxes))
        logits, ious = self._rated(x, detections.labels.flatten())
        shape = detections.labels.shape
        return detections._replace(
            masks=logits.float().sigmoid().unflatten(0, shape),
            mask_scores=detections.scores * ious.float().view(shape),
        )

    def _extract(self, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        """The regions before any layer, because ``iou_head`` looks at those, too."""
        return self.feature_extractor.pooler(features, rois)

    def _convolve(self, pooled: Tensor) -> Tensor:
        return pooled

    def _logits(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.predictor(self.feature_extractor.convolve(x), labels)

    def _losses(
        self, x: Tensor, features: Sequence[Tensor], rows: Rows, targets: Targets
    ) -> dict[str, LossSum]:
        """``loss_mask`` and ``loss_maskiou``, half the squared error of the IoU where the mask
        meets its object."""
        logits, ious = self._rated(x, rows.labels)
        settings = {"method": self.target, "box_end_offset": self.box_end_offset}
        goal = mask_targets(targets, rows, logits.shape[-1], **settings)
        of_objects = rows._replace(rois=_rois_of_objects(rows, targets))
        whole = mask_targets(targets, of_objects, logits.shape[-1], **settings)
        areas = whole.mean(dim=(1, 2)) * _areas(of_objects.rois) / _areas(rows.rois)
        wanted = mask_ious(logits, goal, areas)
        counts = rows.valid & (wanted > 0)
        error = (at_least_float32(ious) - wanted).square()
        rating = _LOSS_WEIGHT * torch.where(counts, error, 0.0).sum()
        return {
            "loss_mask": mask_loss(logits, goal, rows.valid),
            "loss_maskiou": LossSum(rating, counts.sum()),
        }

    def _rated(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mask logits (K, M, M) and predicted IoU (K,) of the classes of pooled regions."""
        logits = self._logits(x, labels)
        return logits, self.iou_head(x, logits, labels)


@torch.no_grad()
def mask_ious(logits: Tensor, goal: Tensor, areas: Tensor) -> Tensor:
    """(K,) IoU of the predicted masks with their whole objects, of which a region may hold a part.

    Args:
        logits: (K, M, M) of the region's class.
        goal: (K, M, M) in 0..1, the object inside the region.
        areas: (K,) of the whole object, relative to the region's.
    """
    found = (logits.sigmoid() > _THRESHOLD).to(goal.dtype)
    common = (found * goal).mean(dim=(1, 2))
    union = found.mean(dim=(1, 2)) + areas - common
    return common / union.clamp(min=1e-7)


def _rois_of_objects(rows: Rows, targets: Targets) -> Tensor:
    """(K, 5) the box of each region's object; the region itself where there are no objects."""
    if targets.boxes.shape[1] == 0:
        return rows.rois
    boxes = targets.boxes[rows.rois[:, 0].long(), rows.matched]
    return torch.cat((rows.rois[:, :1], boxes), dim=1)


def _areas(rois: Tensor) -> Tensor:
    """(K,) areas in square pixels; at least a tiny one."""
    return (rois[:, 3:] - rois[:, 1:3]).prod(dim=1).clamp(min=1e-7)


def build_mask_scoring_head(cfg: CfgNode, in_channels: int) -> MaskScoringHead:
    """The head of ``MODEL.ROI_MASK_HEAD`` with one that rates its masks.

    Raises:
        ValueError: the feature extractor is not one of convolutions on regions of its own.
    """
    head = build_roi_mask_head(cfg, in_channels)
    keys = cfg.MODEL.ROI_MASK_HEAD
    if not isinstance(head.feature_extractor, MaskRCNNFPNFeatureExtractor):
        raise ValueError(
            "MODEL.MASKIOU_ON needs MODEL.ROI_MASK_HEAD.FEATURE_EXTRACTOR "
            f"MaskRCNNFPNFeatureExtractor, but it is {keys.FEATURE_EXTRACTOR!r}"
        )
    num_classes = cfg.MODEL.ROI_BOX_HEAD.NUM_CLASSES
    return MaskScoringHead(
        head.feature_extractor,
        head.predictor,
        MaskIoUHead(in_channels, keys.POOLER_RESOLUTION, num_classes),
        target=head.target,
        box_end_offset=head.box_end_offset,
    )
