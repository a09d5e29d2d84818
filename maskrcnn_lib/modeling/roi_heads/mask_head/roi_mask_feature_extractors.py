"""From regions of the feature maps to what the mask predictor reads."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor
from yacs.config import CfgNode

from maskrcnn_lib.modeling import registry
from maskrcnn_lib.modeling.backbone.fbnet import build_fbnet_head
from maskrcnn_lib.modeling.backbone.fbnetv3 import build_fbnetv3_head
from maskrcnn_lib.modeling.fuse import convolve
from maskrcnn_lib.modeling.make_layers import NormFactory, init_kaiming_normal, make_conv
from maskrcnn_lib.modeling.norms import part_norm_factory
from maskrcnn_lib.modeling.poolers import Pooler, build_pooler
from maskrcnn_lib.modeling.roi_heads.box_head.roi_box_feature_extractors import (
    PooledFeatureExtractor,
    build_blocks_extractor,
    build_resnet_extractor,
)

# In C4 models the mask head works on the same features as the box head.
registry.ROI_MASK_FEATURE_EXTRACTORS.register(
    "ResNet50Conv5ROIFeatureExtractor", build_resnet_extractor
)


class MaskRCNNFPNFeatureExtractor(PooledFeatureExtractor):
    """3x3 convolutions on each region, named ``mask_fcn1``, ``mask_fcn2``, ...; keypoint heads
    are made of the same.

    Args:
        pooler: cuts the regions out.
        in_channels: channels of the feature maps.
        channels: output channels of each convolution.
        dilation: of all convolutions.
        norm: makes a norm behind each convolution, which then has no bias; none by default.
        layer_name: in front of the convolutions' numbers.
    """

    def __init__(
        self,
        pooler: Pooler,
        in_channels: int,
        *,
        channels: Sequence[int],
        dilation: int = 1,
        norm: NormFactory | None = None,
        layer_name: str = "mask_fcn",
    ) -> None:
        super().__init__(pooler, [in_channels, *channels][-1])
        self.layer_names = [f"{layer_name}{index}" for index in range(1, len(channels) + 1)]
        for name, width in zip(self.layer_names, channels, strict=True):
            layer = make_conv(
                in_channels, width, dilation=dilation, norm=norm, init=init_kaiming_normal
            )
            self.add_module(name, layer)
            in_channels = width

    def convolve(self, x: Tensor) -> Tensor:
        for name in self.layer_names:
            x = convolve(getattr(self, name), x, relu=True)
        return x


@registry.ROI_MASK_FEATURE_EXTRACTORS.register("MaskRCNNFPNFeatureExtractor")
def build_mask_fpn_extractor(cfg: CfgNode, in_channels: int) -> MaskRCNNFPNFeatureExtractor:
    """One convolution per entry of ``MODEL.ROI_MASK_HEAD.CONV_LAYERS``."""
    head = cfg.MODEL.ROI_MASK_HEAD
    return MaskRCNNFPNFeatureExtractor(
        build_pooler(cfg, "ROI_MASK_HEAD"),
        in_channels,
        channels=head.CONV_LAYERS,
        dilation=head.DILATION,
        norm=part_norm_factory(cfg, "ROI_MASK_HEAD"),
    )


registry.ROI_MASK_FEATURE_EXTRACTORS.register(
    "FBNetV3.mask_head",
    partial(build_blocks_extractor, head="ROI_MASK_HEAD", build_head=build_fbnetv3_head),
)
registry.ROI_MASK_FEATURE_EXTRACTORS.register(
    "FBNet.roi_head_mask",
    partial(build_blocks_extractor, head="ROI_MASK_HEAD", build_head=build_fbnet_head),
)
