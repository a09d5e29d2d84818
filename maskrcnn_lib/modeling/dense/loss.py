"""What a one-stage detector learns: a class for every anchor, and a box for those with an object.

Anchors are assigned first (``assign_anchors``) and compared then (``dense_losses``);
``LearnByOverlap`` does both, for RetinaNet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from maskrcnn_lib.layers.giou_loss import giou_loss
from maskrcnn_lib.layers.sigmoid_focal_loss import sigmoid_focal_loss
from maskrcnn_lib.modeling.box_coder import BoxCoder
from maskrcnn_lib.modeling.losses import (
    LossSum,
    at_least_float32,
    box_offsets_to,
)
from maskrcnn_lib.modeling.matcher import Matcher
from maskrcnn_lib.modeling.sampling import IGNORED
from maskrcnn_lib.modeling.targets import Targets

BACKGROUND = 0

Normaliser = Literal["batch_and_images", "batch", "image"]


@dataclass(frozen=True)
class DenseLearning:
    """How the outputs are compared with what the anchors were assigned.

    Attributes:
        gamma, alpha: of the focal loss, see ``sigmoid_focal_loss``.
        box_loss: ``"smooth_l1"`` of the offsets or ``"giou"`` of the boxes.
        beta: difference at which the smooth-L1 loss turns linear; 0 is L1.
        box_divisor: the box loss is divided by this times the number of positives.
        normaliser: what the sums are divided by. ``"batch"``: the positives of all images (at
            least 1); ``"batch_and_images"``: the same, and for the class loss one more per image,
            as maskrcnn-benchmark; ``"image"``: each image's by its own positives (at least 1), and
            then by the number of images, as torchvision.
    """

    gamma: float = 2.0
    alpha: float = 0.25
    box_loss: Literal["smooth_l1", "giou"] = "smooth_l1"
    beta: float = 0.11
    box_divisor: float = 4.0
    normaliser: Normaliser = "batch_and_images"


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


class Learner(Protocol):
    """Gives anchors their objects, and says how far the predictions are off."""

    def __call__(
        self, predictions: Predictions, targets: Targets, image_sizes: Tensor
    ) -> dict[str, LossSum]:
        """Returns the losses of all anchors.

        Args:
            predictions: for the anchors of N images.
            targets: ground truth of the images.
            image_sizes: (N, 2) heights and widths without padding, in pixels.
        """


class Assignment(NamedTuple):
    """What the A anchors of N images should say.

    Attributes:
        labels: (N, A) int64, class from 1, BACKGROUND, or IGNORED.
        matched: (N, A) int64, the object of each anchor with a class; any of the others.
    """

    labels: Tensor
    matched: Tensor


@dataclass(frozen=True)
class LearnByOverlap:
    """The learner of a detector whose anchors get the objects that they overlap most.

    Attributes:
        matcher: by which overlap.
        box_coder: turns boxes into offsets and back.
        learning: how outputs are compared with the objects.
    """

    matcher: Matcher
    box_coder: BoxCoder
    learning: DenseLearning

    def __call__(
        self, predictions: Predictions, targets: Targets, image_sizes: Tensor
    ) -> dict[str, LossSum]:
        """Returns ``dense_losses``; anchors in the padding are background as others are."""
        anchors = torch.cat(predictions.anchors)
        assignment = assign_anchors(anchors, targets, self.matcher)
        return dense_losses(
            anchors,
            predictions.logits,
            torch.cat(predictions.offsets, dim=1),
            assignment,
            targets.boxes,
            box_coder=self.box_coder,
            learning=self.learning,
        )


@torch.no_grad()
def assign_anchors(anchors: Tensor, targets: Targets, matcher: Matcher) -> Assignment:
    """Gives each anchor the object that it overlaps most, background, or nothing to learn.

    Args:
        anchors: (A, 4) of all levels, xyxy in pixels.
        targets: ground truth of the N images.
        matcher: by which overlap.
    """
    matches = matcher.match_boxes(targets.boxes, anchors)  # (N, A)
    matched = matches.clamp(min=0)
    if targets.labels.shape[1] == 0:
        return Assignment(torch.full_like(matches, BACKGROUND), matched)
    labels = targets.labels.gather(1, matched)
    labels = labels.masked_fill(matches < 0, BACKGROUND)
    return Assignment(labels.masked_fill(matches == Matcher.BETWEEN_THRESHOLDS, IGNORED), matched)


def dense_losses(
    anchors: Tensor,
    logits: Sequence[Tensor],
    offsets: Tensor,
    assignment: Assignment,
    boxes: Tensor,
    *,
    box_coder: BoxCoder,
    learning: DenseLearning,
) -> dict[str, LossSum]:
    """Compares the outputs for all anchors with their assignment.

    Args:
        anchors: (A, 4) of all levels, xyxy in pixels.
        logits: per level (N, A_l, K). They stay apart, because joining them would copy the largest
            tensors of the model.
        offsets: (N, A, 4).
        assignment: classes and objects of the anchors.
        boxes: (N, G, 4) the objects, xyxy in pixels.
        box_coder: turns boxes into offsets and back.
        learning: how.

    Returns:
        ``loss_retina_cls``: focal loss of all anchors that are not ignored; ``loss_retina_reg``:
        loss of the boxes of the anchors with an object.
    """
    wanted = assignment.labels > BACKGROUND
    positives = wanted.sum(dim=1)
    class_loss = focal_per_image(
        logits, assignment.labels, gamma=learning.gamma, alpha=learning.alpha
    )
    box_loss = _box_loss_per_image(
        anchors, offsets, assignment.matched, wanted, boxes, box_coder, learning
    )
    extra = len(positives) if learning.normaliser == "batch_and_images" else 0
    return {
        "loss_retina_cls": _normalised(class_loss, positives, learning.normaliser, extra=extra),
        "loss_retina_reg": _normalised(
            box_loss, positives, learning.normaliser, factor=learning.box_divisor
        ),
    }


def focal_per_image(
    logits: Sequence[Tensor], labels: Tensor, *, gamma: float, alpha: float
) -> Tensor:
    """(N,) sums of the focal loss over all anchors and classes.

    Args:
        logits: per level (N, A_l, K).
        labels: (N, A) int64 as in ``Assignment``.
        gamma, alpha: see ``sigmoid_focal_loss``.
    """
    sums = []
    by_level = labels.split([level.shape[1] for level in logits], dim=1)
    for level, of_level in zip(logits, by_level, strict=True):
        rows = sigmoid_focal_loss(level.flatten(0, 1), of_level.flatten(), gamma=gamma, alpha=alpha)
        sums.append(rows.view(of_level.shape).sum(dim=1))
    return torch.stack(sums).sum(dim=0)


def _box_loss_per_image(
    anchors: Tensor,
    offsets: Tensor,
    matched: Tensor,
    wanted: Tensor,
    boxes: Tensor,
    box_coder: BoxCoder,
    learning: DenseLearning,
) -> Tensor:
    """(N,) sums of the loss of the boxes of the wanted anchors."""
    references = anchors.expand(len(wanted), -1, -1)
    offsets = at_least_float32(offsets)
    goals = box_offsets_to(boxes, matched, references, box_coder)
    goals = torch.where(wanted[:, :, None], goals, 0.0)
    if learning.box_loss == "smooth_l1":
        losses = F.smooth_l1_loss(offsets, goals, beta=learning.beta, reduction="none").sum(dim=-1)
    else:
        # Where nothing is wanted, anchors are compared with anchors: no gradient can become NaN.
        chosen = torch.where(wanted[:, :, None], offsets, 0.0)
        losses = giou_loss(
            box_coder.decode(chosen, references), box_coder.decode(goals, references)
        )
    return torch.where(wanted, losses, 0.0).sum(dim=1)


def _normalised(
    per_image: Tensor,
    positives: Tensor,
    normaliser: Normaliser,
    *,
    extra: int = 0,
    factor: float = 1.0,
) -> LossSum:
    """The loss over N images with what it is to be divided by; per_image, positives: (N,)."""
    if normaliser == "image":
        mean = per_image / (factor * positives.clamp(min=1))
        return LossSum(mean.sum(), positives.new_tensor(len(positives)))
    return LossSum(per_image.sum(), factor * positives.sum() + extra)
