"""Batch normalisation whose statistics and affine parameters do not change."""

import torch
from torch import Tensor, nn

from maskrcnn_lib.layers.remembered import Remembered


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
        self._scale_and_shift: Remembered[tuple[Tensor, Tensor]] = Remembered()
        # Where the convolution before it keeps its scaled weight if that does not change, and
        # where it finds it while many are scaled at once; both are modeling.fuse's business.
        self.frozen_weight: Remembered[Tensor] = Remembered()
        self.scaled_weight: Tensor | None = None

    def scale_and_shift(self, shift_dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """(C,) factor and (C,) offset: y = x * scale + shift. For folding into a convolution.

        They are computed again only after a buffer was replaced or changed in place (not through
        its ``data``, which leaves no trace), because 53 norms would cost 200 calls in each pass.

        Args:
            shift_dtype: of the offset; by default that of the buffers, as the factor always has.
        """
        sources = (self.weight, self.bias, self.running_mean, self.running_var)
        return self._scale_and_shift(sources, shift_dtype, lambda: self._compute(shift_dtype))

    @torch.no_grad()
    def _compute(self, shift_dtype: torch.dtype | None) -> tuple[Tensor, Tensor]:
        scale = self.weight * self.running_var.rsqrt()
        return scale, (self.bias - self.running_mean * scale).to(shift_dtype or self.bias.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in any floating dtype -> the same shape and dtype."""
        scale, shift = self.scale_and_shift()
        scale = scale.to(x.dtype).reshape(1, -1, 1, 1)
        shift = shift.to(x.dtype).reshape(1, -1, 1, 1)
        return torch.addcmul(shift, x, scale)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}"
