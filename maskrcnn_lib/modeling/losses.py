"""Losses as sums and counts, and how they become means over all ranks.

A mean over the samples of one rank would weigh a sample by the luck of its rank: an object on a
rank with few objects counted more. So a loss comes as a sum and the number of samples behind it,
and the numbers of all ranks are added up before dividing.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from maskrcnn_lib.modeling.box_coder import BoxCoder
from maskrcnn_lib.utils.comm import get_world_size, sum_over_ranks


class LossSum(NamedTuple):
    """A loss before it is divided.

    Attributes:
        total: scalar with gradient, the sum over the samples of this rank.
        count: scalar, the number of samples.
    """

    total: Tensor
    count: Tensor


def mean_losses(sums: dict[str, LossSum]) -> dict[str, Tensor]:
    """Divides each sum by the number of samples on all ranks; one exchange of counts.

    The result is scaled such that the mean over the ranks, which DistributedDataParallel takes of
    the gradients, is the loss of the whole batch. Without samples a loss is 0, with a gradient
    of 0.
    """
    if not sums:
        return {}
    counts = sum_over_ranks(torch.stack([loss.count.detach() for loss in sums.values()]).float())
    totals = torch.stack([loss.total for loss in sums.values()])
    means = totals * (get_world_size() / counts.clamp(min=1))
    return dict(zip(sums, means.unbind(), strict=True))


def at_least_float32(values: Tensor) -> Tensor:
    """The values in float32 where they come in half precision: losses are computed in full."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def box_offsets_to(
    objects: Tensor, matched: Tensor, references: Tensor, box_coder: BoxCoder
) -> Tensor:
    """Offsets (N, S, 4) from reference boxes to the objects matched to them.

    They need not be finite where the object is but an empty slot.

    Args:
        objects: (N, G, 4) xyxy.
        matched: (N, S) int64, which object.
        references: (N, S, 4) xyxy.
        box_coder: turns boxes into offsets.
    """
    if objects.shape[1] == 0:
        return torch.zeros_like(references)
    goal = objects.gather(1, matched[:, :, None].expand(-1, -1, 4))
    return box_coder.encode(goal, references)


def smooth_l1_where(prediction: Tensor, goal: Tensor, wanted: Tensor, *, beta: float) -> Tensor:
    """Sum of the smooth-L1 loss over the rows (..., 4) where ``wanted`` (...) is true.

    The others are their own goal: neither loss nor gradient, with nothing to mask afterwards.
    """
    goal = torch.where(wanted[..., None], goal.to(prediction.dtype), prediction.detach())
    return F.smooth_l1_loss(prediction, goal, beta=beta, reduction="sum")
