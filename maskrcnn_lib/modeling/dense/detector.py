"""The part of a one-stage detector behind its backbone: head, anchors, loss and detections."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maskrcnn_lib.modeling.box_coder import BoxCoder
from maskrcnn_lib.modeling.dense.inference import find_dense_candidates
from maskrcnn_lib.modeling.dense.loss import Learner, Predictions
from maskrcnn_lib.modeling.losses import LossSum
from maskrcnn_lib.modeling.outputs import Detections
from maskrcnn_lib.modeling.rpn.anchor_generator import AnchorGenerator, flatten_anchors
from maskrcnn_lib.modeling.suppression import Candidates, Suppression
from maskrcnn_lib.modeling.targets import Targets
from maskrcnn_lib.structures.image_list import ImageList


@dataclass(frozen=True)
class DetectionLimits:
    """Which detections there are; see ``find_dense_candidates`` and ``Suppression``."""

    pre_nms_top_n: int = 1000
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_detections: int = 100


class DenseHead(nn.Module):
    """Finds objects in feature maps, or says how far the head is off.

    Args:
        head: maps feature maps to logits and offsets, as ``RetinaNetHead`` does.
        anchor_generator: the reference boxes of each level.
        num_classes: classes with background; the head has one logit less.
        learner: what the outputs are told by the ground truth.
        limits: which detections there are.
        box_coder: turns offsets into boxes.
        takes_part: maps anchors (A, 4) and image sizes (N, 2) to (N, A) bool, which anchors may
            find an object in an image; all of them without it.
    """

    def __init__(
        self,
        head: nn.Module,
        anchor_generator: AnchorGenerator,
        *,
        num_classes: int,
        learner: Learner,
        limits: DetectionLimits,
        box_coder: BoxCoder,
        takes_part: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.head = head
        self.anchor_generator = anchor_generator
        self.num_classes = num_classes
        self.learner = learner
        self.limits = limits
        self.box_coder = box_coder
        self.takes_part = takes_part
        self.suppress = Suppression(limits.nms_threshold, limits.max_detections)

    def forward(self, images: ImageList, features: Sequence[Tensor]) -> Detections:
        """Returns the detections of each image, clipped to the image without its padding.

        Args:
            images: the padded batch; its tensors give the padded size.
            features: the backbone's maps (N, C, H, W), finest first.
        """
        return self.suppress(self.candidates(images, features))

    def candidates(self, images: ImageList, features: Sequence[Tensor]) -> Candidates:
        """Returns what may become a detection; arguments as in ``forward``."""
        anchors, logits, offsets = self._predict(images, features)
        sizes = images.size_tensor()
        if self.takes_part is not None:
            logits = [
                said.masked_fill(~self.takes_part(boxes, sizes)[:, :, None], -torch.inf)
                for boxes, said in zip(anchors, logits, strict=True)
            ]
        return find_dense_candidates(
            anchors,
            logits,
            offsets,
            sizes,
            box_coder=self.box_coder,
            pre_nms_top_n=self.limits.pre_nms_top_n,
            score_threshold=self.limits.score_threshold,
        )

    def learn(
        self, images: ImageList, features: Sequence[Tensor], targets: Targets
    ) -> dict[str, LossSum]:
        """Returns the losses of all anchors.

        Args:
            images: the padded batch.
            features: the backbone's maps (N, C, H, W), finest first.
            targets: ground truth of the N images.
        """
        return self.learner(self._predict(images, features), targets, images.size_tensor())

    def _predict(self, images: ImageList, features: Sequence[Tensor]) -> Predictions:
        logits, offsets = self.head(features)
        padded_height, padded_width = images.tensors.shape[-2:]
        shapes = [(feature.shape[-2], feature.shape[-1]) for feature in features]
        return Predictions(
            self.anchor_generator(shapes, (padded_height, padded_width), features[0].device),
            [flatten_anchors(level, self.num_classes - 1) for level in logits],
            [flatten_anchors(level, 4) for level in offsets],
        )
