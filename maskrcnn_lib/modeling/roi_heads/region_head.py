"""What mask and keypoint heads have in common: features of regions in, logits of each out."""

from collections.abc import Sequence

from torch import Tensor, nn

from maskrcnn_lib.modeling.losses import LossSum
from maskrcnn_lib.modeling.outputs import Detections
from maskrcnn_lib.modeling.poolers import boxes_to_rois
from maskrcnn_lib.modeling.roi_heads.regions import Rows
from maskrcnn_lib.modeling.targets import Targets


class RegionHead(nn.Module):
    """A head that adds something to each detection; a subclass says what, and what it learns from.

    Args:
        feature_extractor: maps (features, rois) to maps (K, C, M, M).
        predictor: maps those to logits (K, ...).
        box_end_offset: added to x2 and y2 of the regions that the logits cover.
    """

    def __init__(
        self, feature_extractor: nn.Module, predictor: nn.Module, *, box_end_offset: float = 0.0
    ) -> None:
        super().__init__()
        self.feature_extractor = feature_extractor
        self.predictor = predictor
        self.box_end_offset = box_end_offset

    def forward(self, features: Sequence[Tensor], detections: Detections) -> Detections:
        """Returns the detections with what the head finds on them.

        Args:
            features: the backbone's maps (N, C, H, W), finest first.
            detections: the box head's output for the N images.
        """
        return self.complete(detections, self.predict(features, detections))

    def predict(self, features: Sequence[Tensor], detections: Detections) -> Tensor:
        """Returns the logits (N * D, ...) of the detections' slots; arguments as in ``forward``."""
        x = self._extract(features, boxes_to_rois(detections.boxes))
        return self._logits(x, detections.labels.flatten())

    def complete(self, detections: Detections, logits: Tensor) -> Detections:
        """Returns the N x D detections with what the logits (N * D, ...) of all slots say."""
        raise NotImplementedError

    def pool(self, features: Sequence[Tensor], rows: Rows) -> Tensor | None:
        """What ``learn`` may be given as ``pooled``: (K, C, M, M) of the regions, before any layer.

        None where the extractor is not made of a ``pooler`` and of ``convolve``.
        """
        if not hasattr(self.feature_extractor, "convolve"):
            return None
        return self.feature_extractor.pooler(features, rows.rois)

    def learn(
        self,
        features: Sequence[Tensor],
        rows: Rows,
        targets: Targets,
        *,
        pooled: Tensor | None = None,
        extracted: Tensor | None = None,
    ) -> dict[str, LossSum]:
        """Returns the losses by name.

        Args:
            features: the backbone's maps (N, C, H, W), finest first.
            rows: K regions with an object.
            targets: ground truth of the N images, with masks or keypoints.
            pooled: what ``pool`` gave for the regions, where it was asked before.
            extracted: (K, C, M, M), where the extractor's output for the regions is known already.
        """
        if extracted is None and pooled is not None:
            extracted = self._convolve(pooled)
        x = self._extract(features, rows.rois) if extracted is None else extracted
        return self._losses(x, features, rows, targets)

    def _extract(self, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        """What the logits of the regions (K, 5) are made from: (K, C, M, M)."""
        return self.feature_extractor(features, rois)

    def _convolve(self, pooled: Tensor) -> Tensor:
        """The same from what ``pool`` gave."""
        return self.feature_extractor.convolve(pooled)

    def _logits(self, x: Tensor, labels: Tensor) -> Tensor:
        """Logits of K regions; x: (K, C, M, M), labels: (K,)."""
        raise NotImplementedError

    def _losses(
        self, x: Tensor, features: Sequence[Tensor], rows: Rows, targets: Targets
    ) -> dict[str, LossSum]:
        """The losses of ``learn``; x: (K, C, M, M), what ``_extract`` gives of the regions."""
        raise NotImplementedError
