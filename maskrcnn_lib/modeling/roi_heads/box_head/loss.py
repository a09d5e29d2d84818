"""What the box head learns: the class of each region, and its exact box
(Girshick, Fast R-CNN, section 2.3)."""

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
from maskrcnn_lib.modeling.roi_heads.regions import Rows
from maskrcnn_lib.modeling.targets import Targets

# The label that cross entropy passes over.
_NO_LABEL = -100


def box_losses(
    class_logits: Tensor,
    box_offsets: Tensor,
    rows: Rows,
    targets: Targets,
    *,
    box_coder: BoxCoder,
    beta: float,
) -> dict[str, LossSum]:
    """Compares the head's output with the ground truth.

    Args:
        class_logits: (K, C), class 0 is background.
        box_offsets: (K, C * 4), or (K, k * 4) whose last four serve all classes.
        rows: the K regions.
        targets: ground truth of the images.
        box_coder: turns boxes into offsets.
        beta: difference at which the smooth-L1 loss turns linear.

    Returns:
        ``loss_classifier``: cross entropy; ``loss_box_reg``: smooth L1 of the offsets of the
        regions with an object, in the columns of their class. Both count all regions.
    """
    labels = torch.where(rows.valid, rows.labels, _NO_LABEL)
    classifier_loss = F.cross_entropy(
        at_least_float32(class_logits), labels, ignore_index=_NO_LABEL, reduction="sum"
    )
    positive = rows.valid & (rows.labels > 0)
    goal = box_offsets_to(
        targets.boxes.flatten(0, 1)[None],
        (rows.rois[:, 0].long() * targets.boxes.shape[1] + rows.matched)[None],
        rows.rois[None, :, 1:],
        box_coder,
    )[0]
    box_loss = smooth_l1_where(
        at_least_float32(offsets_of_class(box_offsets, rows.labels, class_logits.shape[1])),
        goal,
        positive,
        beta=beta,
    )
    count = rows.valid.sum()
    return {
        "loss_classifier": LossSum(classifier_loss, count),
        "loss_box_reg": LossSum(box_loss, count),
    }


def offsets_of_class(box_offsets: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """(K, 4) offsets of each region's class.

    Args:
        box_offsets: (K, C * 4), or (K, k * 4) whose last four serve all classes.
        labels: (K,) int64.
        num_classes: C, with background.
    """
    by_class = box_offsets.unflatten(1, (-1, 4))  # (K, k, 4)
    if by_class.shape[1] != num_classes:
        return by_class[:, -1]
    return by_class.gather(1, labels[:, None, None].expand(-1, 1, 4))[:, 0]
