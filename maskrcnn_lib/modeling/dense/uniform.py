"""YOLOF's learning: every object gets the same number of anchors (Chen et al. 2021,
arXiv:2103.09460, section 4.2).

By overlap, a large object would get many of the anchors of a single map and a small one none. Here
an object gets the anchors and the predictions that are nearest to it, the same number of each.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from maskrcnn_lib.layers.giou_loss import giou_loss
from maskrcnn_lib.modeling.box_coder import BoxCoder
from maskrcnn_lib.modeling.dense.loss import BACKGROUND, Predictions, focal_per_image
from maskrcnn_lib.modeling.losses import LossSum, at_least_float32
from maskrcnn_lib.modeling.sampling import IGNORED
from maskrcnn_lib.modeling.targets import Targets
from maskrcnn_lib.structures.boxlist_ops import pairwise_iou


class UniformMatches(NamedTuple):
    """What the A anchors of N images should say; P pairs of an anchor and an object per image.

    Attributes:
        labels: (N, A) int64, class from 1, BACKGROUND, or IGNORED.
        anchors: (N, P) int64, the anchor of each pair; one may be in several.
        objects: (P,) int64, the object of each pair, the same in all images.
        wanted: (N, P) bool, whether the pair's anchor learns the box of its object.
    """

    labels: Tensor
    anchors: Tensor
    objects: Tensor
    wanted: Tensor


@dataclass(frozen=True)
class UniformMatcher:
    """Pairs each object with its nearest anchors, as mmdetection does.

    On a grid several anchors are often equally near; which of them are taken is left open.

    Attributes:
        matches: number of anchors that are paired with an object because their own box is near to
            it, and once more because the box that they predict is. The distance is the sum of the
            differences in centre x and y, width and height.
        min_anchor_iou: pairs of less overlap of anchor and object are not learned; neither is
            their anchor called background.
        max_background_iou: anchors without a pair whose predicted box overlaps an object more are
            not called background.
    """

    matches: int = 4
    min_anchor_iou: float = 0.15
    max_background_iou: float = 0.7

    @torch.no_grad()
    def __call__(
        self, anchors: Tensor, predicted: Tensor, targets: Targets, image_sizes: Tensor
    ) -> UniformMatches:
        """Anchors that are centred on the padding take no part, so that it may be of any size.

        Of several pairs of an anchor, the last decides its class: farther pairs come after nearer
        ones, then pairs by anchor after those by prediction, then later objects.

        Args:
            anchors: (A, 4) xyxy in pixels.
            predicted: (N, A, 4) boxes that the anchors predict, xyxy in pixels.
            targets: ground truth of the N images.
            image_sizes: (N, 2) heights and widths without padding, in pixels.
        """
        objects = targets.boxes  # (N, G, 4)
        count, slots = objects.shape[:2]
        usable = are_centred_on(anchors, image_sizes)  # (N, A)
        every = anchors.expand(count, -1, -1)
        nearest = [_nearest(boxes, objects, usable, self.matches) for boxes in (predicted, every)]
        paired = torch.cat(nearest, dim=2).flatten(1)  # (N, P), rank by rank
        of_object = torch.arange(slots, device=anchors.device)
        of_object = of_object.repeat(paired.shape[1] // max(slots, 1))  # (P,)

        exists = targets.valid[:, of_object] & usable.gather(1, paired)
        overlap = pairwise_iou(objects, anchors).flatten(1)  # (N, G * A)
        overlap = overlap.gather(1, of_object * len(anchors) + paired)
        wanted = exists & (overlap >= self.min_anchor_iou)

        order = torch.arange(len(of_object), device=anchors.device)
        last = torch.full_like(usable, -1, dtype=torch.int64)
        last = last.scatter_reduce(1, paired, torch.where(exists, order, -1), "amax")  # (N, A)
        of_pair = torch.where(wanted, targets.labels[:, of_object], IGNORED)
        # A column for anchors without a pair, which are numbered -1.
        of_pair = F.pad(of_pair, (1, 0))
        labels = of_pair.gather(1, last + 1)
        near = self._is_near_an_object(predicted, objects)
        unpaired = torch.where(near, IGNORED, BACKGROUND)
        labels = torch.where(last < 0, unpaired, labels).masked_fill(~usable, IGNORED)
        return UniformMatches(labels, paired, of_object, wanted)

    def _is_near_an_object(self, predicted: Tensor, objects: Tensor) -> Tensor:
        """(N, A) bool: whether the prediction cannot be called background."""
        if objects.shape[1] == 0:
            return torch.zeros_like(predicted[..., 0], dtype=torch.bool)
        return pairwise_iou(objects, predicted).amax(dim=1) > self.max_background_iou


def are_centred_on(anchors: Tensor, image_sizes: Tensor) -> Tensor:
    """(N, A) bool: whether the centre of an anchor lies on the image, not on its padding.

    Args:
        anchors: (A, 4) xyxy in pixels.
        image_sizes: (N, 2) heights and widths without padding, in pixels.
    """
    centres = _centre_and_size(anchors)[:, :2]
    return (centres < image_sizes.flip(1)[:, None]).all(dim=2)


def _nearest(boxes: Tensor, objects: Tensor, usable: Tensor, count: int) -> Tensor:
    """(N, k, G) int64: the k boxes that are nearest to each object, k = count where there are so
    many; unusable ones come last. boxes: (N, A, 4), objects: (N, G, 4), usable: (N, A)."""
    distance = torch.cdist(_centre_and_size(boxes), _centre_and_size(objects), p=1)  # (N, A, G)
    distance = distance.masked_fill(~usable[:, :, None], torch.inf)
    return distance.topk(min(count, distance.shape[1]), dim=1, largest=False).indices


def _centre_and_size(boxes: Tensor) -> Tensor:
    """xyxy boxes (..., 4) as centre x and y, width and height."""
    start, end = boxes.split(2, dim=-1)
    return torch.cat(((start + end) / 2, end - start), dim=-1)


@dataclass(frozen=True)
class LearnUniformly:
    """The learner of YOLOF.

    Attributes:
        matcher: pairs anchors with objects.
        box_coder: turns offsets into boxes.
        gamma, alpha: of the focal loss, see ``sigmoid_focal_loss``.
    """

    matcher: UniformMatcher
    box_coder: BoxCoder
    gamma: float = 2.0
    alpha: float = 0.25

    def __call__(
        self, predictions: Predictions, targets: Targets, image_sizes: Tensor
    ) -> dict[str, LossSum]:
        """Compares the predictions for all anchors with their objects.

        Returns:
            ``loss_yolof_cls``: focal loss of all anchors that are not ignored; ``loss_yolof_reg``:
            1 - GIoU of the wanted pairs. Both are divided by the anchors with an object, of which
            an image counts at least one, over the batch.
        """
        anchors = torch.cat(predictions.anchors)
        offsets = torch.cat(predictions.offsets, dim=1)
        every = anchors.expand(len(offsets), -1, -1)
        predicted = self.box_coder.decode(at_least_float32(offsets), every)
        matches = self.matcher(anchors, predicted.detach(), targets, image_sizes)
        class_loss = focal_per_image(
            predictions.logits, matches.labels, gamma=self.gamma, alpha=self.alpha
        )
        chosen = predicted.gather(1, matches.anchors[:, :, None].expand(-1, -1, 4))
        goals = targets.boxes[:, matches.objects]
        # What is not wanted is its own goal: no gradient can become NaN.
        chosen = torch.where(matches.wanted[:, :, None], chosen, goals)
        box_loss = torch.where(matches.wanted, giou_loss(chosen, goals), 0.0)
        positives = (matches.labels > BACKGROUND).sum(dim=1).clamp(min=1).sum()
        return {
            "loss_yolof_cls": LossSum(class_loss.sum(), positives),
            "loss_yolof_reg": LossSum(box_loss.sum(), positives),
        }
