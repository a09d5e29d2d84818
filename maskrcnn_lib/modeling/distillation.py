"""Training a small detector on what a large one says of the same image (knowledge distillation).

Method: Hinton et al. 2015, arXiv:1503.02531 (soft targets); Chen et al. 2017, NeurIPS (detectors);
Romero et al. 2014, arXiv:1412.6550 (feature maps through an adaptor); the weighting of the
objectness is the quality focal loss of Li et al. 2020, arXiv:2006.04388.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskrcnn_lib.modeling.detector.generalized_rcnn import GeneralizedRCNN
from maskrcnn_lib.modeling.losses import LossSum, at_least_float32, mean_losses
from maskrcnn_lib.modeling.outputs import Proposals
from maskrcnn_lib.modeling.roi_heads.box_head.loss import offsets_of_class
from maskrcnn_lib.modeling.roi_heads.regions import Regions, Rows, all_rows, positive_rows
from maskrcnn_lib.modeling.rpn.rpn import Predictions
from maskrcnn_lib.modeling.targets import Seeds, Targets, batch_targets
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.image_list import ImageList, to_image_list


@dataclass(frozen=True)
class DistillationWeights:
    """Factors of the losses.

    Attributes:
        truth: of all losses against the ground truth.
        features, objectness, anchors, classes, boxes, masks: of those against the teacher.
    """

    truth: float = 0.5
    features: float = 4.0
    objectness: float = 1.0
    anchors: float = 1.0
    classes: float = 1.5
    boxes: float = 1.0
    masks: float = 1.0


@dataclass(frozen=True)
class PixelScale:
    """How the pixels that a model gets are scaled: ``(value - mean) / std`` of each channel.

    Attributes:
        mean, std: per channel, in the order of the channels.
        bgr255: blue, green, red in 0..255; otherwise red, green, blue in 0..1.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr255: bool

    def to_rgb(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) as red, green, blue in 0..1."""
        images = images * _per_channel(self.std, images) + _per_channel(self.mean, images)
        return images.flip(1) / 255 if self.bgr255 else images

    def from_rgb(self, images: Tensor) -> Tensor:
        """The inverse of ``to_rgb``."""
        images = images.flip(1) * 255 if self.bgr255 else images
        return (images - _per_channel(self.mean, images)) / _per_channel(self.std, images)


def _per_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    return like.new_tensor(values)[:, None, None]


def feature_loss(student: Tensor, teacher: Tensor) -> LossSum:
    """Squared difference of maps (N, C, H, W), each channel of the teacher's with variance 1."""
    teacher = at_least_float32(teacher)
    variance, mean = torch.var_mean(teacher, dim=(0, 2, 3), keepdim=True)
    goal = (teacher - mean) * (variance + 1e-6).rsqrt()
    total = F.mse_loss(at_least_float32(student), goal, reduction="sum")
    return LossSum(total, torch.tensor(student.numel(), device=student.device))


def objectness_loss(student: Tensor, teacher: Tensor) -> LossSum:
    """Binary cross entropy of logits (N, A) towards the teacher's probabilities.

    Each anchor weighs as much as the two are apart, squared: most anchors lie on background and are
    soon right. Counts the teacher's sum of probabilities, at least one per image.
    """
    student, goal = at_least_float32(student), at_least_float32(teacher).sigmoid()
    apart = (student.detach().sigmoid() - goal).abs()
    loss = F.binary_cross_entropy_with_logits(student, goal, weight=apart.square(), reduction="sum")
    return LossSum(loss, goal.sum().clamp(min=len(goal)))


def merge_classes(logits: Tensor, labels: Sequence[int]) -> Tensor:
    """Logits (K, C) of some of the classes in (K, D); all others count as background.

    Args:
        logits: of D classes, class 0 is background.
        labels: C of the D classes, the first is 0.

    Returns:
        Logits whose softmax gives the listed classes the probabilities that they had.
    """
    others = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
    others[list(labels[1:])] = False
    background = logits.masked_fill(~others, -torch.inf).logsumexp(dim=1, keepdim=True)
    return torch.cat((background, logits[:, list(labels[1:])]), dim=1)


def offset_loss(student: Tensor, teacher: Tensor, weights: Tensor) -> LossSum:
    """L1 difference of box offsets (..., 4), weighted by (...) and averaged by the weights."""
    difference = (at_least_float32(student) - at_least_float32(teacher)).abs().sum(dim=-1)
    return LossSum((difference * weights).sum(), weights.sum())


def class_loss(student: Tensor, teacher: Tensor, valid: Tensor) -> LossSum:
    """Cross entropy of logits (K, C) towards the teacher's probabilities, where ``valid`` (K,)."""
    goal = at_least_float32(teacher).softmax(dim=1)
    loss = -(goal * at_least_float32(student).log_softmax(dim=1)).sum(dim=1)
    return LossSum(torch.where(valid, loss, 0.0).sum(), valid.sum())


def soft_mask_loss(student: Tensor, teacher: Tensor, valid: Tensor) -> LossSum:
    """Binary cross entropy of mask logits (K, M, M) towards the teacher's probabilities."""
    goal = at_least_float32(teacher).sigmoid()
    loss = F.binary_cross_entropy_with_logits(at_least_float32(student), goal, reduction="none")
    return LossSum(torch.where(valid, loss.mean(dim=(1, 2)), 0.0).sum(), valid.sum())


class DistillingDetector(nn.Module):
    """A detector that learns from ground truth and from a teacher; outside training the detector.

    Student and teacher have one feature map of the same stride, the same anchors, and masks of the
    same resolution.

    Args:
        student: the detector to train.
        teacher: stays as it is; no parameter of this module.
        scales: of the pixels that the student gets, and of those that the teacher expects.
        teacher_labels: for each class of the student the teacher's, 0 for background first; by
            default both have the same classes.
        weights: factors of the losses.
        most_masks: regions per image whose masks are learnt.

    Raises:
        ValueError: the teacher's labels are not as many as the student's classes; the student
            learns from its hardest regions, which the teacher does not know.
    """

    def __init__(
        self,
        student: GeneralizedRCNN,
        teacher: GeneralizedRCNN,
        *,
        scales: tuple[PixelScale, PixelScale],
        teacher_labels: Sequence[int] | None = None,
        weights: DistillationWeights | None = None,
        most_masks: int = 4,
    ) -> None:
        super().__init__()
        self.student = student
        # In a tuple, so that it is neither trained nor averaged nor saved.
        self._teacher = (teacher.eval().requires_grad_(False),)
        channels = student.backbone.out_channels, teacher.backbone.out_channels
        self.adaptor = nn.Conv2d(*channels, kernel_size=1)
        self.scales = scales
        self.teacher_labels = tuple(teacher_labels or range(teacher.roi_heads.num_classes))
        if len(self.teacher_labels) != student.roi_heads.num_classes:
            raise ValueError(
                f"the student has {student.roi_heads.num_classes} classes, but teacher_labels "
                f"(by default all of the teacher's) are {len(self.teacher_labels)}"
            )
        if student.roi_heads.sampler.hardest:
            raise ValueError(
                "student and teacher are compared on regions that are drawn, not on the student's "
                "hardest ones: set MODEL.ROI_HEADS.HARDEST_REGIONS to False"
            )
        self.weights = weights or DistillationWeights()
        self.most_masks = most_masks

    def forward(
        self,
        images: ImageList | Sequence[Tensor] | Tensor,
        targets: Sequence[BoxList] | None = None,
        *,
        seeds: Seeds | None = None,
    ) -> list[BoxList] | dict[str, Tensor]:
        """Losses in training mode, detections otherwise; arguments as of ``GeneralizedRCNN``.

        The losses are the student's own, and for each of them one with ``teacher`` in its name.
        """
        if not self.training or targets is None:
            return self.student(images, targets)
        images = to_image_list(images, self.student.size_divisible)
        truth = batch_targets(
            targets,
            images.image_sizes,
            device=images.tensors.device,
            num_classes=self.student.roi_heads.num_classes,
            with_masks=True,
            seeds=seeds,
        )
        seen_features, seen_anchors, suggested = self._ask_teacher(images)
        features = self.student.backbone(images.tensors)
        anchors = self.student.rpn.predict(images, features)
        proposals, own = self.student.rpn.learn_from(anchors, truth)
        taught = self._map_losses(features[0], seen_features[0], anchors, seen_anchors)
        regions = self.student.roi_heads.sampler(_joined(proposals, suggested), truth)
        most = min(self.most_masks, regions.most_positive)
        some = Regions(*(part[:, :most] for part in regions[:-1]), most)
        for learn, rows in (
            (self._learn_classes, all_rows(regions)),
            (self._learn_masks, positive_rows(some)),
        ):
            more_own, more_taught = learn(rows, features, seen_features, truth)
            own, taught = own | more_own, taught | more_taught
        own = {name: loss * self.weights.truth for name, loss in mean_losses(own).items()}
        return own | {
            f"loss_teacher_{name}": loss * getattr(self.weights, name)
            for name, loss in mean_losses(taught).items()
        }

    @torch.no_grad()
    def _ask_teacher(self, images: ImageList) -> tuple[list[Tensor], Predictions, Proposals]:
        """The teacher's feature maps, what it says of all anchors, and the regions it proposes."""
        teacher, (own_scale, its_scale) = self._teacher[0], self.scales
        pixels = its_scale.from_rgb(own_scale.to_rgb(images.tensors))
        seen = ImageList(pixels, images.image_sizes)
        features = teacher.backbone(seen.tensors)
        anchors = teacher.rpn.predict(seen, features)
        return features, anchors, teacher.rpn.propose(anchors)

    def _map_losses(
        self, own_map: Tensor, teacher_map: Tensor, anchors: Predictions, goal: Predictions
    ) -> dict[str, LossSum]:
        logits = torch.cat(goal.objectness, dim=1)
        return {
            "features": feature_loss(self.adaptor(own_map), teacher_map),
            "objectness": objectness_loss(torch.cat(anchors.objectness, dim=1), logits),
            "anchors": offset_loss(
                torch.cat(anchors.offsets, dim=1),
                torch.cat(goal.offsets, dim=1),
                at_least_float32(logits).sigmoid(),
            ),
        }

    def _learn_classes(
        self,
        rows: Rows,
        features: Sequence[Tensor],
        teacher_features: Sequence[Tensor],
        truth: Targets,
    ) -> tuple[dict[str, LossSum], dict[str, LossSum]]:
        """Losses of the box head against the truth, and against the teacher."""
        box, teacher_box = self.student.roi_heads.box, self._teacher[0].roi_heads.box
        x, own = box.learn(features, rows, truth)
        logits, offsets = box.predictor(x)
        with torch.no_grad():
            pooled = teacher_box.feature_extractor(teacher_features, rows.rois)
            every_logit, goal_offsets = teacher_box.predictor(pooled)
            goal_logits = merge_classes(at_least_float32(every_logit), self.teacher_labels)
            likely = goal_logits.softmax(dim=1)[:, 1:].max(dim=1)
            labels = likely.indices + 1
        box_loss = offset_loss(
            offsets_of_class(offsets, labels, logits.shape[1]),
            offsets_of_class(goal_offsets, self._in_teacher(labels), every_logit.shape[1]),
            likely.values * rows.valid,
        )
        return own, {"classes": class_loss(logits, goal_logits, rows.valid), "boxes": box_loss}

    def _learn_masks(
        self,
        rows: Rows,
        features: Sequence[Tensor],
        teacher_features: Sequence[Tensor],
        truth: Targets,
    ) -> tuple[dict[str, LossSum], dict[str, LossSum]]:
        """Losses of the mask head against the truth, and against the teacher."""
        mask, teacher_mask = self.student.roi_heads.mask, self._teacher[0].roi_heads.mask
        x = mask.feature_extractor(features, rows.rois)
        own = mask.learn(features, rows, truth, extracted=x)
        with torch.no_grad():
            pooled = teacher_mask.feature_extractor(teacher_features, rows.rois)
            goal = teacher_mask.predictor(pooled, self._in_teacher(rows.labels))
        return own, {"masks": soft_mask_loss(mask.predictor(x, rows.labels), goal, rows.valid)}

    def _in_teacher(self, labels: Tensor) -> Tensor:
        """The teacher's labels for the student's."""
        return torch.tensor(self.teacher_labels, device=labels.device)[labels]


def _joined(first: Proposals, second: Proposals) -> Proposals:
    return Proposals(*(torch.cat(pair, dim=1) for pair in zip(first, second, strict=True)))
