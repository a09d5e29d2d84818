"""Last layers of the mask head: one map of logits per class, or that of one class alone."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from yacs.config import CfgNode

from maskrcnn_lib.layers.convolution import conv2d
from maskrcnn_lib.modeling import registry

# As detectron2 has it. maskrcnn-benchmark's He initialisation by the number of outputs makes these
# weights about 1 where there are few classes; the first losses are 20 then, and fine-tuning
# diverges.
_LOGITS_STD = 0.001


class Conv1x1MaskPredictor(nn.Module):
    """A 1x1 convolution with one output channel per class.

    Args:
        in_channels: channels of a region's map.
        num_classes: classes including background, which is class 0.
    """

    unpacked = ("mask_fcn_logits",)  # only the rows of the wanted classes are used

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.mask_fcn_logits = nn.Conv2d(in_channels, num_classes, kernel_size=1)
        nn.init.normal_(self.mask_fcn_logits.weight, std=_LOGITS_STD)
        nn.init.zeros_(self.mask_fcn_logits.bias)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Returns (K, num_classes, M, M) logits, or (K, M, M) of one class per region.

        Args:
            x: (K, in_channels, M, M).
            labels: (K,) int64, the class whose logits are wanted; None for all classes.
        """
        if labels is None:
            return self.mask_fcn_logits(x)
        weight = self.mask_fcn_logits.weight[labels].flatten(1)  # (K, C)
        logits = torch.einsum("kchw,kc->khw", x, weight)
        return logits + self.mask_fcn_logits.bias[labels][:, None, None]


class DeconvMaskPredictor(Conv1x1MaskPredictor):
    """Doubles the resolution before the 1x1 convolution.

    Args:
        in_channels: channels of a region's map.
        num_classes: classes including background, which is class 0.
        hidden_channels: channels between the two layers.
    """

    def __init__(self, in_channels: int, num_classes: int, *, hidden_channels: int) -> None:
        super().__init__(hidden_channels, num_classes)
        self.conv5_mask = nn.ConvTranspose2d(in_channels, hidden_channels, kernel_size=2, stride=2)
        nn.init.kaiming_normal_(self.conv5_mask.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.conv5_mask.bias)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Returns (K, num_classes, 2 * M, 2 * M) logits, or (K, 2 * M, 2 * M) of one class each.

        Args:
            x: (K, in_channels, M, M).
            labels: (K,) int64, the class whose logits are wanted; None for all classes.
        """
        if labels is None:
            return super().forward(F.relu(self.conv5_mask(x)))
        count, _, side, _ = x.shape
        weight = self.mask_fcn_logits.weight[labels].flatten(1)[:, :, None]  # (K, D, 1)
        finer = self._finer(x).permute(0, 2, 3, 1)  # (K, M, M, 4 * D)
        logits = torch.bmm(finer.reshape(count, side * side * 4, weight.shape[1]), weight)
        logits = logits.view(count, side, side, 4).permute(0, 3, 1, 2)
        logits = F.pixel_shuffle(logits, 2)[:, 0]  # (K, 2 * M, 2 * M)
        return logits + self.mask_fcn_logits.bias[labels][:, None, None]

    def _finer(self, x: Tensor) -> Tensor:
        """(K, 4 * D, M, M): the D channels of each of the four pixels that a pixel becomes.

        Windows of this transposed convolution do not overlap, so that it is a 1x1 convolution to
        four times the channels; that is faster, and the pixels can be put in order when they have
        but one channel.
        """
        weight = self.conv5_mask.weight.permute(2, 3, 1, 0).flatten(0, 2)[:, :, None, None]
        return F.relu(conv2d(x, weight, self.conv5_mask.bias.repeat(4)), inplace=True)


class ClassAgnosticMaskPredictor(DeconvMaskPredictor):
    """Doubles the resolution; one map of logits serves all classes.

    He et al. 2017, section 4.4, find it nearly as good as one map per class; and what it learns
    from one class it knows of all others.

    Args:
        in_channels: channels of a region's map.
        hidden_channels: channels between the two layers.
    """

    def __init__(self, in_channels: int, *, hidden_channels: int) -> None:
        super().__init__(in_channels, 1, hidden_channels=hidden_channels)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Returns (K, 2 * M, 2 * M) logits, or (K, 1, 2 * M, 2 * M) where no labels are given.

        Args:
            x: (K, in_channels, M, M).
            labels: (K,) int64; what they are does not matter.
        """
        logits = super().forward(x)
        return logits if labels is None else logits[:, 0]


@registry.ROI_MASK_PREDICTOR.register("MaskRCNNConv1x1Predictor")
def build_conv1x1_mask_predictor(cfg: CfgNode, in_channels: int) -> Conv1x1MaskPredictor:
    """A predictor that keeps the resolution of the features."""
    return Conv1x1MaskPredictor(in_channels, cfg.MODEL.ROI_BOX_HEAD.NUM_CLASSES)


@registry.ROI_MASK_PREDICTOR.register("MaskRCNNC4Predictor")
def build_deconv_mask_predictor(cfg: CfgNode, in_channels: int) -> DeconvMaskPredictor:
    """A predictor that doubles the resolution, for C4 and FPN heads alike."""
    return DeconvMaskPredictor(
        in_channels,
        cfg.MODEL.ROI_BOX_HEAD.NUM_CLASSES,
        hidden_channels=cfg.MODEL.ROI_MASK_HEAD.CONV_LAYERS[-1],
    )


@registry.ROI_MASK_PREDICTOR.register("ClassAgnosticMaskPredictor")
def build_class_agnostic_mask_predictor(
    cfg: CfgNode, in_channels: int
) -> ClassAgnosticMaskPredictor:
    """A predictor that doubles the resolution and looks at no class."""
    width = cfg.MODEL.ROI_MASK_HEAD.CONV_LAYERS[-1]
    return ClassAgnosticMaskPredictor(in_channels, hidden_channels=width)
