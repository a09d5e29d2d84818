"""Deformable convolution, whose samples lie where the input says.

Version 1 (Dai et al. 2017, arXiv:1703.06211) shifts each sample of the kernel by an offset that a
convolution finds in the input; version 2 (Zhu et al. 2018, arXiv:1811.11168) weighs it as well.
The operator is torchvision's.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from maskrcnn_lib.layers.weight_lists import computing_dtype


class Deformation(NamedTuple):
    """What kind of deformable convolution it is.

    Attributes:
        modulated: whether samples are weighed, too (version 2).
        groups: parts of the input's channels with offsets of their own.
    """

    modulated: bool = False
    groups: int = 1


class DFConv2d(nn.Conv2d):
    """A convolution that keeps the size up to its stride: (N, C, H, W) -> (N, D, H', W').

    It has the parameters of the plain convolution, so that weights of one fit, and those of
    ``offset``, the convolution that finds the offsets: for each of G groups and each of the K
    samples of the kernel, row by row, a shift down and one to the right in pixels of the input, and
    behind all of these, in version 2, G * K logits of weights.

    The offsets' parameters begin at zero, as in mmdetection and detectron2: version 1 starts as the
    plain convolution, version 2 as half of it, since all its weights are sigmoid(0).
    maskrcnn-benchmark draws them at random, which spoils the weights of ImageNet at first.

    Args:
        in_channels, out_channels: C and D.
        kernel_size, stride, dilation, groups, bias: as for ``nn.Conv2d``; the kernel is odd.
        with_modulated_dcn: version 2.
        deformable_groups: G, a divisor of C.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        with_modulated_dcn: bool = True,
        kernel_size: int = 3,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        deformable_groups: int = 1,
        bias: bool = False,
    ) -> None:
        if in_channels % deformable_groups:
            raise ValueError(
                f"{in_channels} channels cannot have offsets in {deformable_groups} groups of "
                "equal size (config key MODEL.RESNETS.DEFORMABLE_GROUPS)"
            )
        place = {
            "stride": stride,
            "padding": dilation * (kernel_size // 2),
            "dilation": dilation,
        }
        super().__init__(in_channels, out_channels, kernel_size, groups=groups, bias=bias, **place)
        samples = deformable_groups * kernel_size**2
        self.parts = (2 * samples, samples) if with_modulated_dcn else (2 * samples,)
        self.offset = nn.Conv2d(in_channels, sum(self.parts), kernel_size, **place)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x, self.weight, self.bias)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The same with other weights, such as those that a norm was folded into.

        torchvision has no kernels for bfloat16, and its gradients would sum up in float16: it
        computes in float32, the result is in the dtype of other convolutions.

        Args:
            x: (N, C, H, W).
            weight: (D, C / groups, kernel_size, kernel_size).
            bias: (D,).
        """
        from torchvision.ops import deform_conv2d

        dtype = torch.promote_types(x.dtype, torch.float32)
        offsets, *logits = self.offset(x).to(dtype).split(self.parts, dim=1)
        y = deform_conv2d(
            x.to(dtype),
            offsets,
            weight.to(dtype),
            None if bias is None else bias.to(dtype),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            mask=logits[0].sigmoid() if logits else None,
        )
        return y.to(computing_dtype(x))
