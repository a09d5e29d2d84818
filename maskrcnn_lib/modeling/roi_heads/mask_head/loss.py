"""What the mask head learns: the outline of the object in each region (Mask R-CNN, section 3)."""

from torch import Tensor
from torch.nn import functional as F

from maskrcnn_lib.modeling.losses import LossSum, at_least_float32


def mask_loss(logits: Tensor, goal: Tensor, valid: Tensor) -> LossSum:
    """Binary cross entropy of the masks, averaged over the pixels of each region.

    Args:
        logits: (K, M, M) of each region's class.
        goal: (K, M, M) in 0..1.
        valid: (K,) bool, which regions count.
    """
    logits = at_least_float32(logits)
    share = valid[:, None, None] / (logits.shape[1] * logits.shape[2])  # of each pixel
    total = F.binary_cross_entropy_with_logits(
        logits, goal.to(logits), weight=share.to(logits), reduction="sum"
    )
    return LossSum(total, valid.sum())
