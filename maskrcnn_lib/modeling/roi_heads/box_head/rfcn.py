"""R-FCN: all convolutions run on the whole image, and the bins of a region vote on its class
(Dai et al. 2016, arXiv:1605.06409).

The last convolutions give, for each class and each box offset, one map per bin: how much this place
looks like the top left part of a cat, and so on. Position-sensitive pooling reads from each map its
bin of the region, and the mean over the bins is the region's logit or offset. Nothing is learnt
behind the pooling.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from maskrcnn_lib.layers.ps_roi_pool import PSROIAlign, PSROIPool
from maskrcnn_lib.modeling import registry
from maskrcnn_lib.modeling.make_layers import init_normal, make_conv


class RFCNFeatureExtractor(nn.Module):
    """Score maps of the whole image, and the bins of each region in them.

    Args:
        pooler: maps (maps, rois) to bins.
        in_channels: channels of the feature map.
        num_logits: classes with background.
        num_offsets: box offsets of all regressors together.
        bins: bins of a region, which is also the number of maps for each logit and offset.
        reduced_channels: of a 1x1 convolution with ReLU in front of the maps; 0 for none.
    """

    def __init__(
        self,
        pooler: PSROIPool | PSROIAlign,
        in_channels: int,
        *,
        num_logits: int,
        num_offsets: int,
        bins: int,
        reduced_channels: int,
    ) -> None:
        super().__init__()
        one_by_one = partial(make_conv, kernel_size=1, init=partial(init_normal, std=0.01))
        self.pooler = pooler
        self.reduce = nn.Identity()
        if reduced_channels:
            self.reduce = nn.Sequential(one_by_one(in_channels, reduced_channels), nn.ReLU())
        width = reduced_channels or in_channels
        self.conv_cls = one_by_one(width, num_logits * bins)
        self.conv_bbox_pred = one_by_one(width, num_offsets * bins)
        self.out_channels = num_logits + num_offsets

    def forward(self, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Returns (K, num_logits + num_offsets, P, P): what each bin says of the region.

        Args:
            features: the backbone's map (N, C, H, W), alone.
            rois: (K, 5) index of the image, then xyxy in pixels.
        """
        x = self.reduce(features[0])
        pooled = [self.pooler(conv(x), rois) for conv in (self.conv_cls, self.conv_bbox_pred)]
        return torch.cat(pooled, dim=1)


class RFCNPredictor(nn.Module):
    """The vote: the mean over the bins.

    Args:
        num_classes: classes including background, whose logits come first.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns class logits (K, num_classes) and offsets of the rest.

        Args:
            x: (K, C, P, P) of ``RFCNFeatureExtractor``.
        """
        votes = x.mean(dim=(2, 3))
        return votes[:, : self.num_classes], votes[:, self.num_classes :]


@registry.ROI_BOX_FEATURE_EXTRACTORS.register("RFCNFeatureExtractor")
def build_rfcn_extractor(cfg: CfgNode, in_channels: int) -> RFCNFeatureExtractor:
    """Score maps as ``MODEL.RFCN`` describes them, for the classes of ``MODEL.ROI_BOX_HEAD``."""
    settings, head = cfg.MODEL.RFCN, cfg.MODEL.ROI_BOX_HEAD
    size, scales = settings.PS_GRID_SIZE, head.POOLER_SCALES
    if len(scales) != 1:
        raise ValueError(
            f"R-FCN reads one feature map, but MODEL.ROI_BOX_HEAD.POOLER_SCALES has {len(scales)}"
        )
    pooler = PSROIPool(size, scales[0])
    if settings.ALIGN:
        pooler = PSROIAlign(size, scales[0], head.POOLER_SAMPLING_RATIO)
    return RFCNFeatureExtractor(
        pooler,
        in_channels,
        num_logits=head.NUM_CLASSES,
        num_offsets=4 * (2 if cfg.MODEL.CLS_AGNOSTIC_BBOX_REG else head.NUM_CLASSES),
        bins=size * size,
        reduced_channels=settings.REDUCED_CHANNELS,
    )


@registry.ROI_BOX_PREDICTOR.register("RFCNPredictor")
def build_rfcn_predictor(cfg: CfgNode, in_channels: int) -> RFCNPredictor:
    """The vote over the classes of ``MODEL.ROI_BOX_HEAD``."""
    return RFCNPredictor(cfg.MODEL.ROI_BOX_HEAD.NUM_CLASSES)
