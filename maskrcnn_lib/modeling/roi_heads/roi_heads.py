"""All heads that work on regions, as one module."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from maskrcnn_lib.modeling.losses import LossSum
from maskrcnn_lib.modeling.matcher import Matcher
from maskrcnn_lib.modeling.outputs import Detections, Proposals
from maskrcnn_lib.modeling.roi_heads.box_head.box_head import ROIBoxHead, build_roi_box_head
from maskrcnn_lib.modeling.roi_heads.keypoint_head.keypoint_head import (
    ROIKeypointHead,
    build_roi_keypoint_head,
)
from maskrcnn_lib.modeling.roi_heads.mask_head.mask_head import ROIMaskHead, build_roi_mask_head
from maskrcnn_lib.modeling.roi_heads.mask_head.mask_scoring import build_mask_scoring_head
from maskrcnn_lib.modeling.roi_heads.mask_head.point_rend import build_point_rend_head
from maskrcnn_lib.modeling.roi_heads.region_head import RegionHead
from maskrcnn_lib.modeling.roi_heads.regions import RegionSampler, all_rows, positive_rows
from maskrcnn_lib.modeling.suppression import Candidates
from maskrcnn_lib.modeling.targets import Targets


class CombinedROIHeads(nn.Module):
    """The box head, and the mask and keypoint heads on what it finds.

    Args:
        box: finds classes and boxes.
        mask: outlines the detections; None for a model without masks.
        keypoint: finds the keypoints of the detections; None for a model without.
        sampler: chooses the regions to learn from.
        num_classes: classes with background.
    """

    def __init__(
        self,
        box: ROIBoxHead,
        mask: ROIMaskHead | None = None,
        keypoint: ROIKeypointHead | None = None,
        *,
        sampler: RegionSampler,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.box = box
        self.mask = mask
        self.keypoint = keypoint
        self.sampler = sampler
        self.num_classes = num_classes

    @property
    def num_keypoints(self) -> int:
        """Keypoints of each object; 0 for a model without."""
        return 0 if self.keypoint is None else self.keypoint.num_keypoints

    def forward(
        self,
        features: Sequence[Tensor],
        proposals: Proposals,
        image_sizes: Tensor,
    ) -> Detections:
        """Returns the detections of each image.

        Args:
            features: the backbone's maps (N, C, H, W), finest first.
            proposals: regions of the N images.
            image_sizes: (N, 2) heights and widths without padding, in pixels.
        """
        detections = self.box.suppress(self.candidates(features, proposals, image_sizes))
        if self.mask is not None:
            detections = self.mask(features, detections)
        if self.keypoint is not None:
            detections = self.keypoint(features, detections)
        return detections

    def candidates(
        self,
        features: Sequence[Tensor],
        proposals: Proposals,
        image_sizes: Tensor,
    ) -> Candidates:
        """Returns what may become a detection; arguments as in ``forward``."""
        return self.box.candidates(features, proposals, image_sizes)

    def learn(
        self,
        features: Sequence[Tensor],
        proposals: Proposals,
        targets: Targets,
        image_sizes: Tensor,
    ) -> dict[str, LossSum]:
        """Returns the losses of all heads on one sample of the proposals.

        Args:
            features: the backbone's maps (N, C, H, W), finest first.
            proposals: regions of the N images.
            targets: ground truth of the N images.
            image_sizes: (N, 2) heights and widths without padding; only a cascade needs them.
        """
        difficulty = partial(self.box.difficulty, features)
        regions = self.sampler(proposals, targets, difficulty=difficulty)
        rows = all_rows(regions)
        learners = [head for head in (self.mask, self.keypoint) if head is not None]
        positive = positive_rows(regions) if learners else None
        # What is cut out of the maps first is the last to send them its gradient. So none of their
        # size waits in memory while the box head's linear layers, the largest, get theirs.
        pooled = [
            None if self._shares(head) else head.pool(features, positive) for head in learners
        ]
        x, losses = self.box.learn(features, rows, targets)
        for head, own in zip(learners, pooled, strict=True):
            shared = None
            if self._shares(head):
                shared = x[torch.searchsorted(rows.positions, positive.positions)]
            losses |= head.learn(features, positive, targets, pooled=own, extracted=shared)
        return losses

    def _shares(self, head: RegionHead) -> bool:
        """Whether a head reads what the box head's extractor gives."""
        return head.feature_extractor is self.box.feature_extractor


def build_roi_heads(cfg: CfgNode, in_channels: int) -> CombinedROIHeads:
    """The heads that the config switches on.

    Args:
        cfg: the whole config.
        in_channels: channels of the backbone's feature maps.
    """
    box = build_roi_box_head(cfg, in_channels)
    mask = keypoint = None
    if cfg.MODEL.MASK_ON and cfg.MODEL.MASKIOU_ON:
        mask = build_mask_scoring_head(cfg, in_channels)
    elif cfg.MODEL.MASK_ON and cfg.MODEL.ROI_MASK_HEAD.POINT_HEAD_ON:
        mask = build_point_rend_head(cfg, in_channels)
    elif cfg.MODEL.MASK_ON:
        shared = _shared_extractor(cfg, box, "ROI_MASK_HEAD")
        mask = build_roi_mask_head(cfg, in_channels, shared_extractor=shared)
    if cfg.MODEL.KEYPOINT_ON:
        shared = _shared_extractor(cfg, box, "ROI_KEYPOINT_HEAD")
        keypoint = build_roi_keypoint_head(cfg, in_channels, shared_extractor=shared)
    settings = cfg.MODEL.ROI_HEADS
    sampler = RegionSampler(
        Matcher(settings.FG_IOU_THRESHOLD, settings.BG_IOU_THRESHOLD),
        batch_size=settings.BATCH_SIZE_PER_IMAGE,
        positive_fraction=settings.POSITIVE_FRACTION,
        hardest=settings.HARDEST_REGIONS,
    )
    return CombinedROIHeads(
        box, mask, keypoint, sampler=sampler, num_classes=cfg.MODEL.ROI_BOX_HEAD.NUM_CLASSES
    )


def _shared_extractor(cfg: CfgNode, box: ROIBoxHead, head_name: str) -> nn.Module | None:
    """The box head's extractor where the config lets another head use it."""
    settings = cfg.MODEL[head_name]
    if not settings.SHARE_BOX_FEATURE_EXTRACTOR:
        return None
    names = cfg.MODEL.ROI_BOX_HEAD.FEATURE_EXTRACTOR, settings.FEATURE_EXTRACTOR
    if names[0] != names[1]:
        raise ValueError(
            f"MODEL.ROI_BOX_HEAD.FEATURE_EXTRACTOR is {names[0]!r} and that of {head_name} is "
            f"{names[1]!r}: different extractors cannot be shared; set "
            f"MODEL.{head_name}.SHARE_BOX_FEATURE_EXTRACTOR to False"
        )
    return box.feature_extractor
