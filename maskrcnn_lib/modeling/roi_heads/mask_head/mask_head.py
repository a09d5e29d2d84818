"""The mask head: detections in, a probability map inside each box out (Mask R-CNN paper)."""

from collections.abc import Sequence

from torch import Tensor, nn
from yacs.config import CfgNode

from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.modeling import registry
from maskrcnn_lib.modeling.losses import LossSum
from maskrcnn_lib.modeling.outputs import Detections
from maskrcnn_lib.modeling.roi_heads.mask_head import (
    roi_mask_feature_extractors,  # noqa: F401
    roi_mask_predictors,  # noqa: F401
)
from maskrcnn_lib.modeling.roi_heads.mask_head.loss import mask_loss
from maskrcnn_lib.modeling.roi_heads.mask_head.targets import MaskTarget, mask_targets
from maskrcnn_lib.modeling.roi_heads.region_head import RegionHead
from maskrcnn_lib.modeling.roi_heads.regions import Rows
from maskrcnn_lib.modeling.targets import Targets


class ROIMaskHead(RegionHead):
    """Outlines the detections, each in the channel of its class; its loss is ``loss_mask``.

    Args:
        feature_extractor: maps (features, rois) to maps (K, C, M, M).
        predictor: maps those and one label per region to logits (K, M', M').
        target: what the masks are compared with in training, see ``mask_targets``.
        box_end_offset: added to x2 and y2 of the regions that the masks are cut to.
    """

    def __init__(
        self,
        feature_extractor: nn.Module,
        predictor: nn.Module,
        *,
        target: MaskTarget = "raster",
        box_end_offset: float = 0.0,
    ) -> None:
        super().__init__(feature_extractor, predictor, box_end_offset=box_end_offset)
        self.target: MaskTarget = target

    def _logits(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.predictor(x, labels)

    def complete(self, detections: Detections, logits: Tensor) -> Detections:
        masks = logits.float().sigmoid().unflatten(0, detections.labels.shape)
        return detections._replace(masks=masks)

    def _losses(
        self, x: Tensor, features: Sequence[Tensor], rows: Rows, targets: Targets
    ) -> dict[str, LossSum]:
        """The binary cross entropy in the channel of each region's class."""
        logits = self._logits(x, rows.labels)
        goal = mask_targets(
            targets,
            rows,
            logits.shape[-1],
            method=self.target,
            box_end_offset=self.box_end_offset,
        )
        return {"loss_mask": mask_loss(logits, goal, rows.valid)}


def build_roi_mask_head(
    cfg: CfgNode, in_channels: int, *, shared_extractor: nn.Module | None = None
) -> ROIMaskHead:
    """The mask head that ``MODEL.ROI_MASK_HEAD`` describes.

    Args:
        cfg: the whole config.
        in_channels: channels of the backbone's feature maps.
        shared_extractor: the box head's feature extractor, where both heads share it.
    """
    head = cfg.MODEL.ROI_MASK_HEAD
    extractor = shared_extractor
    if extractor is None:
        extractor = registry.ROI_MASK_FEATURE_EXTRACTORS[head.FEATURE_EXTRACTOR](cfg, in_channels)
    predictor = registry.ROI_MASK_PREDICTOR[head.PREDICTOR](cfg, extractor.out_channels)
    dialect = get_dialect(cfg.MODEL.DIALECT)
    return ROIMaskHead(
        extractor,
        predictor,
        target=dialect.mask_target,
        box_end_offset=dialect.box_end_offset,
    )
