"""3x3 convolutions that only predict, with a quarter of the multiplications.

Winograd's minimal filtering F(4x4, 3x3) (Lavin & Gray 2016, Fast Algorithms for Convolutional
Neural Networks, arXiv:1509.09308) computes tiles of 4 x 4 results from patches of 6 x 6 inputs:
both are taken to 36 "frequencies", where the convolution is one matrix product each. Sums are in
float32 and about ten times as far from the exact result as those of the plain formula, some 1e-4 of
its standard deviation. A value that is not finite spoils all results of the tiles it belongs to.
"""

import torch
from torch import Tensor, nn

from maskrcnn_lib.layers._library import on_load, ops_available

_PANEL = 16  # channels that lie side by side in the weights, as csrc/cpu/winograd.h has it
# Transformed weights are four times as large, and read once for every few tiles. Up to this many
# pairs of channels they stay in the cache, and the gain is worth the memory.
_MOST_CHANNEL_PAIRS = 256 * 256

# G of the paper: a kernel's values to frequencies.
_ANALYSIS = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def gains_from_winograd(conv: nn.Conv2d, dtype: torch.dtype) -> bool:
    """Whether ``winograd_conv3x3`` does what a layer does, and faster.

    Args:
        conv: the layer, on the CPU.
        dtype: float32 or bfloat16, in which it would compute otherwise. Processors with matrix
            units for bfloat16 (AMX) are faster without.
    """
    is_plain_3x3 = (
        conv.kernel_size == (3, 3)
        and conv.stride == conv.padding == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
    )
    channels = conv.in_channels, conv.out_channels
    return (
        is_plain_3x3
        and not any(count % _PANEL for count in channels)
        and channels[0] * channels[1] <= _MOST_CHANNEL_PAIRS
        and conv.weight.device.type == "cpu"
        and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
        and not (dtype == torch.bfloat16 and torch.cpu._is_amx_tile_supported())
        and _has_kernel()
    )


def _has_kernel() -> bool:
    """Whether the compiled library computes it: one from a compiler without vectors does not."""
    name = "maskrcnn::winograd_conv3x3"
    return ops_available() and torch._C._dispatch_has_kernel_for_dispatch_key(name, "CPU")


def winograd_weight(weight: Tensor) -> Tensor:
    """A kernel's frequencies in the operator's order.

    Args:
        weight: (D, C, 3, 3) floating point; D is a multiple of 16.

    Returns:
        (36, D / 16, C, 16) float32.
    """
    outputs, channels = weight.shape[:2]
    analysis = torch.tensor(_ANALYSIS, dtype=torch.float64)
    frequencies = torch.einsum("ik,dckl,jl->ijcd", analysis, weight.double(), analysis)
    panels = frequencies.reshape(36, channels, outputs // _PANEL, _PANEL).transpose(1, 2)
    return panels.float().contiguous()


def winograd_conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None, *, relu: bool) -> Tensor:
    """``conv2d`` with a 3x3 kernel, stride 1 and padding 1, then a ReLU where asked for.

    For inference on the CPU: there is no gradient.

    Args:
        x: (N, C, H, W) float32, bfloat16 or float16; C is a multiple of 16.
        weight: (36, D / 16, C, 16) float32 of ``winograd_weight``.
        bias: (D,) float32.
        relu: whether a ReLU follows.

    Returns:
        (N, D, H, W) of the dtype of ``x``, channels_last.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    return torch.ops.maskrcnn.winograd_conv3x3(x, weight, bias, relu)


def _register() -> None:
    def fake(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        outputs = weight.shape[1] * _PANEL
        shape = x.shape[0], x.shape[2], x.shape[3], outputs
        return x.new_empty(shape).permute(0, 3, 1, 2)

    torch.library.register_fake("maskrcnn::winograd_conv3x3")(fake)


on_load(_register)
