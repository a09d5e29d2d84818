"""Convolutions and linear layers that only predict, on a GPU.

They hold their weights in the type they compute in, where autocast converts them in each call, and
take one pass for bias, shortcut and ReLU.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskrcnn_lib.layers.convolution import conv2d
from maskrcnn_lib.layers.packed import PackedConv2d, PackedLinear, replace_layers


class GpuConv2d(PackedConv2d):
    """A convolution on a GPU; arguments as for ``PackedConv2d``, any floating dtype."""

    def forward(
        self,
        x: Tensor,
        *,
        add: Tensor | None = None,
        overwrite: bool = False,
        relu: bool = False,
    ) -> Tensor:
        """The convolution, plus ``add``, then a ReLU where asked for; ``add`` stays as it is."""
        padding, stride, dilation, groups = self.shape
        return conv2d(
            x.to(self.dtype),
            self.weight,
            self.bias,
            tuple(stride),
            tuple(padding),
            tuple(dilation),
            groups,
            add=add,
            relu=relu,
        )


class GpuLinear(PackedLinear):
    """A linear layer on a GPU: (K, C) -> (K, D); arguments as for ``PackedLinear``."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.dtype = dtype
        self.register_buffer("weight", linear.weight.detach().to(dtype))
        bias = linear.bias
        self.register_buffer("bias", None if bias is None else bias.detach().to(dtype))

    def forward(self, x: Tensor, *, relu: bool = False) -> Tensor:
        """The linear layer, then a ReLU where asked for."""
        y = F.linear(x.to(self.dtype), self.weight, self.bias)
        return F.relu(y, inplace=True) if relu else y


def pack_layers_for_gpu(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Replaces convolutions and linear layers of a model on a GPU, in place; returns it.

    See ``packed.pack_layers``, which does it on the CPU.
    """
    return replace_layers(model, dtype, GpuConv2d, GpuLinear)
