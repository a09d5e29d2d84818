"""Batch normalisation whose statistics and affine parameters do not change."""

import torch
from torch import Tensor, nn


class FrozenBatchNorm2d(nn.Module):
    """y = x * weight / sqrt(running_var) + bias - running_mean * weight / sqrt(running_var).

    There is no epsilon: importers of checkpoints that were trained with one add it to
    ``running_var``. All four are buffers, so that no optimiser sees them.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int) -> None:
        """Starts as the identity on ``num_features`` channels."""
        super().__init__()
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """(C,) factor and (C,) offset: y = x * scale + shift. For folding into a convolution."""
        scale = self.weight * self.running_var.rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in any floating dtype -> the same shape and dtype."""
        scale, shift = self.scale_and_shift()
        scale = scale.to(x.dtype).reshape(1, -1, 1, 1)
        shift = shift.to(x.dtype).reshape(1, -1, 1, 1)
        return torch.addcmul(shift, x, scale)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}"
