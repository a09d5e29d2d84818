"""RetinaNet's head: two towers of convolutions, shared by all levels (Lin et al. 2017,
arXiv:1708.02002, section 4)."""

import math
from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from maskrcnn_lib.modeling.make_layers import NormFactory, init_normal, make_conv

_INIT_STD = 0.01
init_small = partial(init_normal, std=_INIT_STD)


class RetinaNetHead(nn.Module):
    """Class logits and box offsets of each anchor of each position.

    Parameter names are maskrcnn-benchmark's: ``cls_tower.{i}``, ``bbox_tower.{i}`` (convolutions,
    norms and ReLUs counted), ``cls_logits``, ``bbox_pred``. Output channels go through the anchors,
    and for each anchor through its classes or its four offsets.

    Args:
        in_channels: channels of the feature maps, and of the towers.
        num_anchors: anchors per position, the same on all levels.
        num_classes: foreground classes.
        num_convs: convolutions in each tower.
        prior: score of every class at the start of training. Without it the many background
            anchors would swamp the loss of the first iterations.
        norm: makes a norm behind each convolution of the towers, which then has no bias.
    """

    def __init__(
        self,
        in_channels: int,
        num_anchors: int,
        num_classes: int,
        *,
        num_convs: int = 4,
        prior: float = 0.01,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__()
        self.cls_tower = conv_tower(in_channels, num_convs, norm)
        self.bbox_tower = conv_tower(in_channels, num_convs, norm)
        self.cls_logits = class_layer(in_channels, num_anchors * num_classes, prior=prior)
        self.bbox_pred = make_conv(in_channels, num_anchors * 4, init=init_small)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Returns per level logits (N, A * K, H, W) and offsets (N, A * 4, H, W).

        Args:
            features: maps (N, in_channels, H, W), finest first.
        """
        logits = [self.cls_logits(self.cls_tower(x)) for x in features]
        return logits, [self.bbox_pred(self.bbox_tower(x)) for x in features]


def conv_tower(channels: int, num_convs: int, norm: NormFactory | None) -> nn.Sequential:
    """Convolutions, norms if there are any, and ReLUs in one row, all of ``channels``."""
    convs = [
        make_conv(channels, channels, norm=norm, relu=True, init=init_small)
        for _ in range(num_convs)
    ]
    return nn.Sequential(*(layer for conv in convs for layer in conv))


def class_layer(in_channels: int, out_channels: int, *, prior: float) -> nn.Conv2d:
    """A convolution whose outputs begin as the logits of the score ``prior``."""
    conv = make_conv(in_channels, out_channels, init=init_small)
    nn.init.constant_(conv.bias, -math.log((1 - prior) / prior))
    return conv
