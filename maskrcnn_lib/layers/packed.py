"""Convolutions and linear layers that only predict, on a CPU, by oneDNN.

They add another map and apply a ReLU while the result is still in the cache, which saves a pass
over memory for each; they hold their weights in the type they compute in, where autocast converts
them in each call; and they take oneDNN where torch takes MKL, which runs at half the speed on some
processors that are not Intel's. Operators and their arguments are those of torch's own compiler.
Most 3x3 convolutions take our own operator instead, which multiplies less (winograd.py).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from maskrcnn_lib.layers.deform_conv import DFConv2d
from maskrcnn_lib.layers.winograd import gains_from_winograd, winograd_conv3x3, winograd_weight


class PackedConv2d(nn.Module):
    """A convolution: (N, C, H, W) -> (N, D, H', W').

    Its weights stay in channels_last. oneDNN's own orders gain a few per cent, but only at the
    sizes of map they are made for, and lose a factor of 3 to 8 at others.

    Args:
        conv: what is replaced; padded by zeros.
        dtype: float32 or bfloat16, of weights and results; inputs are brought to it.
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        weight, bias = conv.weight.detach(), conv.bias
        self.dtype = dtype
        self.winograd = gains_from_winograd(conv, dtype)
        if self.winograd:
            weight, dtype = winograd_weight(weight), torch.float32
        else:
            weight = weight.to(dtype, memory_format=torch.channels_last)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", None if bias is None else bias.detach().to(dtype))
        self.groups = conv.groups
        self.shape = list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups

    def forward(
        self,
        x: Tensor,
        *,
        add: Tensor | None = None,
        overwrite: bool = False,
        relu: bool = False,
    ) -> Tensor:
        """The convolution, plus ``add``, then a ReLU where asked for.

        Args:
            x: (N, C, H, W).
            add: (N, D, H', W').
            overwrite: whether ``add`` may become the result, which saves its memory.
            relu: whether a ReLU follows.
        """
        x = x.to(self.dtype)
        if add is None:
            return self._convolve(x, relu=relu)
        if self.winograd or self.groups > 1:  # torch's fused operator has no bfloat16 for groups
            y = self._convolve(x, relu=False).add_(add)
            return y.relu_() if relu else y
        weights = self.weight, self.bias, *self.shape
        after = "add", 1.0, "relu" if relu else None, [], ""
        add = add.to(self.dtype)
        if overwrite:
            return torch.ops.mkldnn._convolution_pointwise_.binary(add, x, *weights, *after)
        return torch.ops.mkldnn._convolution_pointwise.binary(x, add, *weights, *after)

    def _convolve(self, x: Tensor, *, relu: bool) -> Tensor:
        if self.winograd:
            return winograd_conv3x3(x, self.weight, self.bias, relu=relu)
        weights = self.weight, self.bias, *self.shape
        unary = "relu" if relu else "none"
        return torch.ops.mkldnn._convolution_pointwise(x, *weights, unary, [], "")


class PackedLinear(nn.Module):
    """A linear layer with weights in oneDNN's order: (K, C) -> (K, D).

    Args:
        linear: what is replaced.
        dtype: float32 or bfloat16, of weights and results; inputs are brought to it.
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        weight = linear.weight.detach().to(dtype).contiguous()
        # no buffer, as oneDNN's order can be neither moved nor saved
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight)
        self.register_buffer(
            "bias", None if linear.bias is None else linear.bias.detach().to(dtype)
        )
        self.dtype = dtype

    def forward(self, x: Tensor, *, relu: bool = False) -> Tensor:
        """The linear layer, then a ReLU where asked for; x: (K, C)."""
        unary = "relu" if relu else "none"
        return torch.ops.mkldnn._linear_pointwise(
            x.to(self.dtype), self.weight, self.bias, unary, [], ""
        )


def pack_layers(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Replaces convolutions and linear layers of a model by packed ones, in place; returns it.

    Nothing changes where torch has no oneDNN for this dtype. Layers whose weights their parent uses
    directly stay as they are; it names them in an attribute ``unpacked`` (tuple of child names).
    """
    return replace_layers(model, dtype, PackedConv2d, PackedLinear) if _has_onednn(dtype) else model


def replace_layers(
    model: nn.Module,
    dtype: torch.dtype,
    make_conv: Callable[[nn.Conv2d, torch.dtype], nn.Module],
    make_linear: Callable[[nn.Linear, torch.dtype], nn.Module],
) -> nn.Module:
    """Replaces all plain convolutions and linear layers, in place, but those named ``unpacked``."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if name in getattr(parent, "unpacked", ()):
                continue
            if is_plain_conv(layer):
                setattr(parent, name, make_conv(layer, dtype))
            elif isinstance(layer, nn.Linear):
                setattr(parent, name, make_linear(layer, dtype))
    return model


def is_plain_conv(layer: nn.Module) -> bool:
    """Whether a layer is a convolution that pads with zeros, and nothing else."""
    if not isinstance(layer, nn.Conv2d) or isinstance(layer, DFConv2d):
        return False
    return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _has_onednn(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32
