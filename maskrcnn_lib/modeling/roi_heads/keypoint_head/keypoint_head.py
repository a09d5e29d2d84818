"""The keypoint head: detections in, a place for each of their keypoints out (Mask R-CNN paper)."""

from collections.abc import Sequence

from torch import Tensor, nn
from yacs.config import CfgNode

from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.modeling import registry
from maskrcnn_lib.modeling.losses import LossSum
from maskrcnn_lib.modeling.outputs import Detections
from maskrcnn_lib.modeling.roi_heads.keypoint_head import (
    roi_keypoint_feature_extractors,  # noqa: F401
    roi_keypoint_predictors,  # noqa: F401
)
from maskrcnn_lib.modeling.roi_heads.keypoint_head.inference import locate_keypoints
from maskrcnn_lib.modeling.roi_heads.keypoint_head.loss import keypoint_loss
from maskrcnn_lib.modeling.roi_heads.keypoint_head.targets import keypoint_targets
from maskrcnn_lib.modeling.roi_heads.region_head import RegionHead
from maskrcnn_lib.modeling.roi_heads.regions import Rows
from maskrcnn_lib.modeling.targets import Targets
from maskrcnn_lib.structures.keypoint import Skeleton


class ROIKeypointHead(RegionHead):
    """Finds the keypoints of the detections, whatever their class; its loss is ``loss_kp``.

    Args:
        feature_extractor: maps (features, rois) to maps (K, C, M, M).
        predictor: maps those to heat maps of logits (K, P, M', M'), one per keypoint.
        num_keypoints: P.
        skeleton: names and connections of the keypoints; None where they are not known.
        box_end_offset: added to x2 and y2 of the boxes that the heat maps cover.
        needs_point_in_object: see ``keypoint_targets``.
    """

    def __init__(
        self,
        feature_extractor: nn.Module,
        predictor: nn.Module,
        *,
        num_keypoints: int,
        skeleton: Skeleton | None = None,
        box_end_offset: float = 0.0,
        needs_point_in_object: bool = False,
    ) -> None:
        super().__init__(feature_extractor, predictor, box_end_offset=box_end_offset)
        self.num_keypoints = num_keypoints
        self.skeleton = skeleton
        self.needs_point_in_object = needs_point_in_object

    def _logits(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.predictor(x)

    def complete(self, detections: Detections, logits: Tensor) -> Detections:
        boxes = detections.boxes.flatten(0, 1)
        keypoints = locate_keypoints(logits, boxes, box_end_offset=self.box_end_offset)
        return detections._replace(keypoints=keypoints.unflatten(0, detections.labels.shape))

    def _losses(
        self, x: Tensor, features: Sequence[Tensor], rows: Rows, targets: Targets
    ) -> dict[str, LossSum]:
        """The cross entropy over the places of each keypoint."""
        logits = self._logits(x, rows.labels)
        cells, valid = keypoint_targets(
            targets,
            rows,
            logits.shape[-1],
            box_end_offset=self.box_end_offset,
            needs_point_in_object=self.needs_point_in_object,
        )
        return {"loss_kp": keypoint_loss(logits, cells, valid)}


def build_roi_keypoint_head(
    cfg: CfgNode, in_channels: int, *, shared_extractor: nn.Module | None = None
) -> ROIKeypointHead:
    """The keypoint head that ``MODEL.ROI_KEYPOINT_HEAD`` describes.

    Args:
        cfg: the whole config.
        in_channels: channels of the backbone's feature maps.
        shared_extractor: the box head's feature extractor, where both heads share it.
    """
    head = cfg.MODEL.ROI_KEYPOINT_HEAD
    extractor = shared_extractor
    if extractor is None:
        build = registry.ROI_KEYPOINT_FEATURE_EXTRACTORS[head.FEATURE_EXTRACTOR]
        extractor = build(cfg, in_channels)
    predictor = registry.ROI_KEYPOINT_PREDICTOR[head.PREDICTOR](cfg, extractor.out_channels)
    dialect = get_dialect(cfg.MODEL.DIALECT)
    return ROIKeypointHead(
        extractor,
        predictor,
        num_keypoints=head.NUM_CLASSES,
        skeleton=_build_skeleton(cfg),
        box_end_offset=dialect.box_end_offset,
        needs_point_in_object=dialect.keypoint_in_object,
    )


def _build_skeleton(cfg: CfgNode) -> Skeleton | None:
    head = cfg.MODEL.ROI_KEYPOINT_HEAD
    if not head.NAMES:
        return None
    if len(head.NAMES) != head.NUM_CLASSES:
        raise ValueError(
            f"MODEL.ROI_KEYPOINT_HEAD.NAMES has {len(head.NAMES)} names for NUM_CLASSES "
            f"{head.NUM_CLASSES}"
        )
    return Skeleton(tuple(head.NAMES), tuple((int(a), int(b)) for a, b in head.CONNECTIONS))
