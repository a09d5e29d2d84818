"""The box head: pooled regions in, detections out (Faster R-CNN paper)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from yacs.config import CfgNode

from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.modeling import registry
from maskrcnn_lib.modeling.box_coder import BoxCoder
from maskrcnn_lib.modeling.losses import LossSum, at_least_float32
from maskrcnn_lib.modeling.outputs import Detections, Proposals
from maskrcnn_lib.modeling.poolers import boxes_to_rois
from maskrcnn_lib.modeling.roi_heads.box_head import (
    rfcn,  # noqa: F401
    roi_box_feature_extractors,  # noqa: F401
    roi_box_predictors,  # noqa: F401
)
from maskrcnn_lib.modeling.roi_heads.box_head.inference import find_candidates
from maskrcnn_lib.modeling.roi_heads.box_head.loss import box_losses
from maskrcnn_lib.modeling.roi_heads.regions import Regions, Rows, all_rows
from maskrcnn_lib.modeling.suppression import Candidates, Suppression, build_suppression
from maskrcnn_lib.modeling.targets import Targets


class ROIBoxHead(nn.Module):
    """Classifies the proposals and refines their boxes.

    Args:
        feature_extractor: maps (features, rois) to what the predictor reads.
        predictor: maps that to class logits and box offsets.
        box_coder: turns offsets into boxes.
        suppress: makes detections of candidates.
        score_threshold: detections score above it.
        min_size: smallest width and height of a detection in pixels.
        loss_beta: difference at which the smooth-L1 loss of the offsets turns linear.
    """

    def __init__(
        self,
        feature_extractor: nn.Module,
        predictor: nn.Module,
        *,
        box_coder: BoxCoder,
        suppress: Suppression | None = None,
        score_threshold: float = 0.05,
        min_size: float = 0.0,
        loss_beta: float = 1.0,
    ) -> None:
        super().__init__()
        self.feature_extractor = feature_extractor
        self.predictor = predictor
        self.box_coder = box_coder
        self.suppress = suppress or Suppression()
        self.score_threshold = score_threshold
        self.min_size = min_size
        self.loss_beta = loss_beta

    def forward(
        self, features: Sequence[Tensor], proposals: Proposals, image_sizes: Tensor
    ) -> Detections:
        """Returns the detections of each image, without masks.

        Args:
            features: the backbone's maps (N, C, H, W), finest first.
            proposals: regions of the N images.
            image_sizes: (N, 2) heights and widths without padding, in pixels.
        """
        return self.suppress(self.candidates(features, proposals, image_sizes))

    def candidates(
        self, features: Sequence[Tensor], proposals: Proposals, image_sizes: Tensor
    ) -> Candidates:
        """Returns what may become a detection; arguments as in ``forward``."""
        x = self.feature_extractor(features, boxes_to_rois(proposals.boxes))
        return self.score(*self.predictor(x), proposals, image_sizes)

    def score(
        self, class_logits: Tensor, box_offsets: Tensor, proposals: Proposals, image_sizes: Tensor
    ) -> Candidates:
        """Applies the head's thresholds; arguments as in ``find_candidates``."""
        return find_candidates(
            class_logits,
            box_offsets,
            proposals,
            image_sizes,
            box_coder=self.box_coder,
            score_threshold=self.score_threshold,
            min_size=self.min_size,
        )

    def learn(
        self, features: Sequence[Tensor], rows: Rows, targets: Targets
    ) -> tuple[Tensor, dict[str, LossSum]]:
        """Returns what the predictor read of each region, and the losses.

        Args:
            features: the backbone's maps (N, C, H, W), finest first.
            rows: K regions to learn from.
            targets: ground truth of the N images.
        """
        x = self.feature_extractor(features, rows.rois)
        return x, self.losses(*self.predictor(x), rows, targets)

    @torch.no_grad()
    def difficulty(self, features: Sequence[Tensor], regions: Regions) -> Tensor:
        """The cross entropy (N, S) of each region; 0 in unused slots.

        Args:
            features: the backbone's maps (N, C, H, W), finest first.
            regions: of the N images.
        """
        rows = all_rows(regions)
        class_logits, _ = self.predictor(self.feature_extractor(features, rows.rois))
        loss = F.cross_entropy(at_least_float32(class_logits), rows.labels, reduction="none")
        slots = loss.new_zeros(regions.valid.numel())
        return slots.index_copy(0, rows.positions, loss).view_as(regions.valid)

    def losses(
        self, class_logits: Tensor, box_offsets: Tensor, rows: Rows, targets: Targets
    ) -> dict[str, LossSum]:
        """The losses of what the predictor said of each region; see ``box_losses``."""
        return box_losses(
            class_logits,
            box_offsets,
            rows,
            targets,
            box_coder=self.box_coder,
            beta=self.loss_beta,
        )


def build_roi_box_head(
    cfg: CfgNode, in_channels: int, *, offset_weights: Sequence[float] | None = None
) -> ROIBoxHead:
    """The box head that ``MODEL.ROI_BOX_HEAD`` and ``MODEL.ROI_HEADS`` describe.

    Args:
        cfg: the whole config.
        in_channels: channels of the backbone's feature maps.
        offset_weights: in place of ``MODEL.ROI_HEADS.BBOX_REG_WEIGHTS``, for a stage of a cascade.
    """
    head, common = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_HEADS
    dialect = get_dialect(cfg.MODEL.DIALECT)
    feature_extractor = registry.ROI_BOX_FEATURE_EXTRACTORS[head.FEATURE_EXTRACTOR](
        cfg, in_channels
    )
    predictor = registry.ROI_BOX_PREDICTOR[head.PREDICTOR](cfg, feature_extractor.out_channels)
    return ROIBoxHead(
        feature_extractor,
        predictor,
        box_coder=BoxCoder(
            tuple(offset_weights or common.BBOX_REG_WEIGHTS),
            limit_shrinking=dialect.limit_shrinking,
        ),
        suppress=build_suppression(cfg),
        score_threshold=common.SCORE_THRESH,
        min_size=dialect.min_detection_size,
        loss_beta=dialect.box_loss_beta if head.SMOOTH_L1_BETA < 0 else head.SMOOTH_L1_BETA,
    )
