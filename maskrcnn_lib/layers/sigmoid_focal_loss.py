"""Focal loss of independent classes (Lin et al. 2017, Focal Loss for Dense Object Detection,
arXiv:1708.02002, eq. 5).

With p the sigmoid of a logit and p_t = p where the class is the right one, 1 - p elsewhere, a
logit's loss is ``-alpha_t (1 - p_t)^gamma log p_t``; alpha_t is alpha for the right class and
1 - alpha for the others. Easy logits, of which a dense detector has a hundred thousand per image,
weigh next to nothing. The operator sums over the classes of a row while it reads them, and its
backward computes everything again, so that nothing of the size of the logits is written but their
gradient.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskrcnn_lib.layers._checks import (
    require_floating,
    require_same_device,
    require_shape,
    require_tensor,
)
from maskrcnn_lib.layers._library import on_load, ops_available

_LABEL_DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def sigmoid_focal_loss(
    logits: Tensor, labels: Tensor, *, gamma: float = 2.0, alpha: float = 0.25
) -> Tensor:
    """Focal loss of each row, summed over its classes.

    Args:
        logits: (R, K) floating point, one column per foreground class.
        labels: (R,) integers as maskrcnn-benchmark's: 0 for background, c = 1..K for the class of
            column c - 1, negative for rows that are ignored.
        gamma: how much easy logits are played down; 0 is cross entropy. At least 0.
        alpha: weight of the right classes, in [0, 1]; the others have 1 - alpha.

    Returns:
        (R,) float32, or float64 for float64 logits; 0 for ignored rows. Half precision is computed
        in float32.

    Raises:
        ValueError: a shape, a device, gamma or alpha is wrong, or (on the CPU) a label exceeds K;
            on CUDA such a row counts as background.
        TypeError: logits are not floating point, or labels are no integers.
    """
    require_floating("logits", logits)
    require_shape("logits", logits, (None, None), "(R, K)")
    require_tensor("labels", labels)
    require_shape("labels", labels, (len(logits),), f"({len(logits)},), as logits have rows")
    require_same_device("labels", labels, "logits", logits)
    if labels.dtype not in _LABEL_DTYPES:
        raise TypeError(f"labels must be integers, but are {labels.dtype}")
    if gamma < 0 or not 0 <= alpha <= 1:
        raise ValueError(
            f"gamma must not be negative and alpha lie in [0, 1], but are {gamma} and {alpha}"
        )
    labels = labels.long()
    if not _compiled(logits):
        _check_labels(labels, logits.shape[1])
        return sigmoid_focal_loss_reference(logits, labels, gamma, alpha)
    try:
        return torch.ops.maskrcnn.sigmoid_focal_loss(logits, labels, gamma, alpha)
    except RuntimeError:  # the operator looks at the labels, too, but raises this
        _check_labels(labels, logits.shape[1])
        raise


class SigmoidFocalLoss(nn.Module):
    """The sum of ``sigmoid_focal_loss`` over all rows, as maskrcnn-benchmark's layer.

    Args:
        gamma, alpha: see ``sigmoid_focal_loss``.
    """

    def __init__(self, gamma: float, alpha: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha = alpha

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns a scalar; arguments are the logits and labels of ``sigmoid_focal_loss``."""
        return sigmoid_focal_loss(logits, targets, gamma=self.gamma, alpha=self.alpha).sum()

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        return f"gamma={self.gamma}, alpha={self.alpha}"


def sigmoid_focal_loss_reference(
    logits: Tensor, labels: Tensor, gamma: float, alpha: float
) -> Tensor:
    """The same as ``sigmoid_focal_loss`` in plain PyTorch."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    columns = torch.arange(1, logits.shape[1] + 1, device=logits.device)
    right = columns == labels[:, None]  # (R, K)
    wrongness = torch.where(right, -logits, logits)
    # log(1 - p_t) = log sigmoid(wrongness) and -log p_t = softplus(wrongness), without cancellation
    infinite = wrongness.isinf()
    finite = wrongness.masked_fill(infinite, 0)
    losses = torch.exp(gamma * F.logsigmoid(finite)) * F.softplus(finite)
    losses = torch.where(infinite, wrongness.clamp(min=0), losses)
    losses = losses * torch.full_like(losses, 1 - alpha).masked_fill(right, alpha)
    return torch.where(labels[:, None] < 0, 0.0, losses).sum(dim=1)


def _compiled(logits: Tensor) -> bool:
    return logits.device.type in ("cpu", "cuda") and ops_available(logits.device)


def _check_labels(labels: Tensor, classes: int) -> None:
    """On the CPU, where looking is cheap."""
    if labels.device.type == "cpu" and (labels > classes).any():
        row = int((labels > classes).nonzero()[0])
        raise ValueError(
            f"labels must be at most {classes}, the number of classes, but label {row} is "
            f"{int(labels[row])}"
        )


def _register() -> None:
    library = torch.library
    library.register_fake("maskrcnn::sigmoid_focal_loss")(_fake)
    library.register_fake("maskrcnn::sigmoid_focal_loss_backward")(_fake_backward)
    library.register_autograd(
        "maskrcnn::sigmoid_focal_loss", _backward, setup_context=_setup_context
    )


def _fake(logits: Tensor, labels: Tensor, gamma: float, alpha: float) -> Tensor:
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return logits.new_empty(logits.shape[0], dtype=dtype)


def _fake_backward(
    grad: Tensor, logits: Tensor, labels: Tensor, gamma: float, alpha: float
) -> Tensor:
    return logits.new_empty(logits.shape)


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    logits, labels, ctx.gamma, ctx.alpha = inputs
    ctx.save_for_backward(logits, labels)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    logits, labels = ctx.saved_tensors
    slopes = torch.ops.maskrcnn.sigmoid_focal_loss_backward(
        grad, logits, labels, ctx.gamma, ctx.alpha
    )
    return slopes, None, None, None


on_load(_register)
