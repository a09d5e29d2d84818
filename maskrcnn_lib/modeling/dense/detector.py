"""The part of a one-stage detector behind its backbone: head, anchors, loss and detections."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from maskrcnn_lib.modeling.box_coder import BoxCoder
from maskrcnn_lib.modeling.dense.inference import select_dense_detections
from maskrcnn_lib.modeling.dense.loss import DenseLearning, assign_anchors, dense_losses
from maskrcnn_lib.modeling.losses import LossSum
from maskrcnn_lib.modeling.matcher import Matcher
from maskrcnn_lib.modeling.outputs import Detections
from maskrcnn_lib.modeling.rpn.anchor_generator import AnchorGenerator, flatten_anchors
from maskrcnn_lib.modeling.targets import Targets
from maskrcnn_lib.structures.image_list import ImageList


@dataclass(frozen=True)
class DetectionLimits:
    """Which detections there are; see ``select_dense_detections``."""

    pre_nms_top_n: int = 1000
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_detections: int = 100


class Predictions(NamedTuple):
    """What the head says about the A_l anchors of each level of N images.

    Attributes:
        anchors: per level (A_l, 4), xyxy in pixels.
        logits: per level (N, A_l, K).
        offsets: per level (N, A_l, 4).
    """

    anchors: list[Tensor]
    logits: list[Tensor]
    offsets: list[Tensor]


class DenseHead(nn.Module):
    """Finds objects in feature maps, or says how far the head is off.

    Args:
        head: maps feature maps to logits and offsets, as ``RetinaNetHead`` does.
        anchor_generator: the reference boxes of each level.
        num_classes: classes with background; the head has one logit less.
        matcher: gives each anchor an object or none.
        learning: how outputs are compared with the ground truth.
        limits: which detections there are.
        box_coder: turns offsets into boxes.
    """

    def __init__(
        self,
        head: nn.Module,
        anchor_generator: AnchorGenerator,
        *,
        num_classes: int,
        matcher: Matcher,
        learning: DenseLearning,
        limits: DetectionLimits,
        box_coder: BoxCoder,
    ) -> None:
        super().__init__()
        self.head = head
        self.anchor_generator = anchor_generator
        self.num_classes = num_classes
        self.matcher = matcher
        self.learning = learning
        self.limits = limits
        self.box_coder = box_coder

    def forward(self, images: ImageList, features: Sequence[Tensor]) -> Detections:
        """Returns the detections of each image, clipped to the image without its padding.

        Args:
            images: the padded batch; its tensors give the padded size.
            features: the backbone's maps (N, C, H, W), finest first.
        """
        predictions = self._predict(images, features)
        sizes = torch.tensor(images.image_sizes).to(features[0].device, non_blocking=True)
        return select_dense_detections(
            *predictions,
            sizes,
            box_coder=self.box_coder,
            pre_nms_top_n=self.limits.pre_nms_top_n,
            score_threshold=self.limits.score_threshold,
            nms_threshold=self.limits.nms_threshold,
            max_detections=self.limits.max_detections,
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
        predictions = self._predict(images, features)
        anchors = torch.cat(predictions.anchors)
        return dense_losses(
            anchors,
            predictions.logits,
            torch.cat(predictions.offsets, dim=1),
            assign_anchors(anchors, targets, self.matcher),
            targets.boxes,
            box_coder=self.box_coder,
            learning=self.learning,
        )

    def _predict(self, images: ImageList, features: Sequence[Tensor]) -> Predictions:
        logits, offsets = self.head(features)
        padded_height, padded_width = images.tensors.shape[-2:]
        shapes = [(feature.shape[-2], feature.shape[-1]) for feature in features]
        return Predictions(
            self.anchor_generator(shapes, (padded_height, padded_width), features[0].device),
            [flatten_anchors(level, self.num_classes - 1) for level in logits],
            [flatten_anchors(level, 4) for level in offsets],
        )
