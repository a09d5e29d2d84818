"""What the region proposal network learns: which anchors hold an object, and where exactly
(Ren et al., Faster R-CNN, section 3.1.2)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from maskrcnn_lib.modeling.box_coder import BoxCoder
from maskrcnn_lib.modeling.losses import (
    LossSum,
    at_least_float32,
    box_offsets_to,
    smooth_l1_where,
)
from maskrcnn_lib.modeling.matcher import Matcher
from maskrcnn_lib.modeling.sampling import (
    IGNORED,
    Sample,
    labels_of_matches,
    random_keys,
    sample_balanced,
)
from maskrcnn_lib.modeling.targets import Targets


@dataclass(frozen=True)
class RPNLearning:
    """How the anchors of the loss are chosen and compared.

    Attributes:
        matcher: gives each anchor an object or none.
        batch_size: anchors per image that the loss looks at.
        positive_fraction: largest share of anchors with an object among them.
        straddle: anchors that reach further beyond their image, in pixels, are left out; negative:
            none is.
        beta: difference at which the smooth-L1 loss of the offsets turns linear.
    """

    matcher: Matcher
    batch_size: int = 256
    positive_fraction: float = 0.5
    straddle: float = 0.0
    beta: float = 1 / 9


def rpn_losses(
    anchors: Tensor,
    ids: Tensor,
    image_sizes: Tensor,
    targets: Targets,
    predictions_at: Callable[[Tensor], tuple[Tensor, Tensor]],
    *,
    box_coder: BoxCoder,
    learning: RPNLearning,
) -> dict[str, LossSum]:
    """Compares the network's output with the ground truth, on a sample of the anchors.

    Args:
        anchors: (A, 4) of all levels, xyxy in pixels.
        ids: (A,) int64, names of the anchors (``AnchorGenerator.names``).
        image_sizes: (N, 2) heights and widths without padding, in pixels.
        targets: ground truth of the N images.
        predictions_at: gives objectness logits (N, S) and offsets (N, S, 4) of the anchors whose
            indices (N, S) it gets.
        box_coder: turns boxes into offsets.
        learning: which anchors, and how.

    Returns:
        ``loss_objectness``: binary cross entropy; ``loss_rpn_box_reg``: smooth L1 of the offsets of
        the positives. Both count all sampled anchors.
    """
    sample, matches = sample_anchors(anchors, ids, image_sizes, targets, learning)
    objectness, offsets = predictions_at(sample.indices)
    logits = at_least_float32(objectness)
    objectness_loss = F.binary_cross_entropy_with_logits(
        logits, sample.positive.to(logits), weight=sample.valid.to(logits), reduction="sum"
    )
    matched = matches.gather(1, sample.indices).clamp(min=0)
    goal = box_offsets_to(targets.boxes, matched, anchors[sample.indices], box_coder)
    box_loss = smooth_l1_where(at_least_float32(offsets), goal, sample.positive, beta=learning.beta)
    count = sample.valid.sum()
    return {
        "loss_objectness": LossSum(objectness_loss, count),
        "loss_rpn_box_reg": LossSum(box_loss, count),
    }


@torch.no_grad()
def sample_anchors(
    anchors: Tensor, ids: Tensor, image_sizes: Tensor, targets: Targets, learning: RPNLearning
) -> tuple[Sample, Tensor]:
    """The anchors of each image that the loss looks at, and (N, A) the objects of all anchors.

    Arguments as for ``rpn_losses``.
    """
    matches = learning.matcher.match_boxes(targets.boxes, anchors)
    labels = labels_of_matches(matches)
    if learning.straddle >= 0:
        inside = anchors_inside(anchors, image_sizes, learning.straddle)
        labels = labels.masked_fill(~inside, IGNORED)
    sample = sample_balanced(
        labels,
        random_keys(targets.seeds, ids, starts=targets.starts),
        batch_size=learning.batch_size,
        positive_fraction=learning.positive_fraction,
    )
    return sample, matches


def anchors_inside(anchors: Tensor, image_sizes: Tensor, straddle: float) -> Tensor:
    """(N, A) bool: which anchors reach at most ``straddle`` pixels beyond their image.

    Right and below less than one pixel more is allowed, the width of maskrcnn-benchmark's last
    pixel.

    Args:
        anchors: (A, 4) xyxy.
        image_sizes: (N, 2) heights and widths.
        straddle: pixels.
    """
    start, end = anchors.split(2, dim=-1)  # (A, 2) each
    limit = image_sizes.flip(1)[:, None] + (straddle + 1)  # (N, 1, 2), width first
    return (start >= -straddle).all(dim=-1) & (end < limit).all(dim=-1)
