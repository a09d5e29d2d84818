"""Backbones by name: what ``MODEL.BACKBONE.CONV_BODY`` can say, and how the config becomes one."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from maskrcnn_lib.layers.batch_norm import FrozenBatchNorm2d
from maskrcnn_lib.modeling.backbone.fbnetv3 import ARCHITECTURES, FBNetV3Body
from maskrcnn_lib.modeling.backbone.fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from maskrcnn_lib.modeling.backbone.mobilenetv2 import MobileNetV2Body, SingleLevelNeck
from maskrcnn_lib.modeling.backbone.resnet import RESNET_BLOCKS, ResNet, ResNetHead
from maskrcnn_lib.modeling.make_layers import NormFactory
from maskrcnn_lib.modeling.norms import group_norm_factory, named_norm_factory
from maskrcnn_lib.modeling.registry import BACKBONES

if TYPE_CHECKING:
    from yacs.config import CfgNode


class Backbone(nn.Module):
    """A body, with a feature pyramid on top or not.

    Args:
        body: images (N, 3, H, W) -> list of maps, finest first.
        fpn: list of maps -> list of maps with equal channels.
        out_channels: channels of every map that comes out.
    """

    def __init__(self, body: nn.Module, fpn: nn.Module | None = None, *, out_channels: int) -> None:
        super().__init__()
        self.body = body
        self.fpn = fpn
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> list[Tensor]:
        """Returns the feature maps of images (N, 3, H, W), finest first."""
        features = self.body(x)
        return features if self.fpn is None else self.fpn(features)


def build_backbone(cfg: "CfgNode") -> nn.Module:
    """Builds the backbone that ``MODEL.BACKBONE.CONV_BODY`` names, with ``out_channels`` on it.

    Raises:
        KeyError: no backbone of that name is registered.
    """
    return BACKBONES[cfg.MODEL.BACKBONE.CONV_BODY](cfg)


def build_resnet_head(cfg: "CfgNode") -> ResNetHead:
    """Builds ``layer4`` for RoIs, fitting the C4 body that the config describes."""
    options = _resnet_options(cfg)
    del options["stem_out_channels"]
    return ResNetHead(dilation=cfg.MODEL.RESNETS.RES5_DILATION, **options)


def _resnet_options(cfg: "CfgNode") -> dict[str, Any]:
    keys = cfg.MODEL.RESNETS
    if any(keys.STAGE_WITH_DCN):
        raise ValueError("MODEL.RESNETS.STAGE_WITH_DCN: deformable convolution is not supported")
    return {
        "stem_out_channels": keys.STEM_OUT_CHANNELS,
        "res2_out_channels": keys.RES2_OUT_CHANNELS,
        "num_groups": keys.NUM_GROUPS,
        "width_per_group": keys.WIDTH_PER_GROUP,
        "stride_in_1x1": keys.STRIDE_IN_1X1,
        "norm": _resnet_norm(cfg),
    }


def _resnet_norm(cfg: "CfgNode") -> NormFactory:
    if cfg.MODEL.NORM:
        return named_norm_factory(cfg)
    names = (cfg.MODEL.RESNETS.STEM_FUNC, cfg.MODEL.RESNETS.TRANS_FUNC)
    if names == ("StemWithFixedBatchNorm", "BottleneckWithFixedBatchNorm"):
        return FrozenBatchNorm2d
    if names == ("StemWithGN", "BottleneckWithGN"):
        return group_norm_factory(cfg)
    raise ValueError(
        f"MODEL.RESNETS.STEM_FUNC and TRANS_FUNC are {names[0]!r} and {names[1]!r}; choose "
        "StemWithFixedBatchNorm with BottleneckWithFixedBatchNorm or StemWithGN with "
        "BottleneckWithGN"
    )


def _build_resnet(cfg: "CfgNode", *, depth: int, stages: int) -> Backbone:
    with_res5 = stages == 4  # without it, as in C4, res5 is the box head
    body = ResNet(
        RESNET_BLOCKS[depth][:stages],
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT,
        last_dilation=cfg.MODEL.RESNETS.RES5_DILATION if with_res5 else 1,
        **_resnet_options(cfg),
    )
    return Backbone(body, out_channels=body.out_channels[-1])


def _build_resnet_fpn(cfg: "CfgNode", *, depth: int, retinanet: bool = False) -> Backbone:
    stages = (2, 3, 4) if retinanet else (1, 2, 3, 4)
    body = ResNet(
        RESNET_BLOCKS[depth],
        stages,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT,
        **_resnet_options(cfg),
    )
    channels = cfg.MODEL.RESNETS.BACKBONE_OUT_CHANNELS
    top_block: nn.Module = LastLevelMaxPool()
    if retinanet:
        from_body = cfg.MODEL.RETINANET.USE_C5
        p6_channels = body.out_channels[-1] if from_body else channels
        top_block = LastLevelP6P7(p6_channels, channels, from_body=from_body)
    fpn = FPN(
        body.out_channels,
        channels,
        norm=group_norm_factory(cfg) if cfg.MODEL.FPN.USE_GN else None,
        relu=cfg.MODEL.FPN.USE_RELU,
        top_block=top_block,
        first_stage=stages[0],
    )
    return Backbone(body, fpn, out_channels=fpn.out_channels)


def _build_fbnetv3(cfg: "CfgNode", *, name: str) -> Backbone:
    body = FBNetV3Body(
        ARCHITECTURES[name],
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT,
        norm=named_norm_factory(cfg),
    )
    return Backbone(body, out_channels=body.out_channels)


def _build_mobilenetv2(cfg: "CfgNode") -> Backbone:
    body = MobileNetV2Body(freeze_at=cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT)
    # ImageNet's statistics serve the body; the neck is new and needs some of its own.
    neck = SingleLevelNeck(
        body.out_channels,
        cfg.MODEL.RESNETS.BACKBONE_OUT_CHANNELS,
        norm=named_norm_factory(cfg) or FrozenBatchNorm2d,
    )
    return Backbone(body, neck, out_channels=neck.out_channels)


_BUILDERS: dict[str, Callable[["CfgNode"], Backbone]] = {
    "R-50-C4": partial(_build_resnet, depth=50, stages=3),
    "R-50-C5": partial(_build_resnet, depth=50, stages=4),
    "R-101-C4": partial(_build_resnet, depth=101, stages=3),
    "R-101-C5": partial(_build_resnet, depth=101, stages=4),
    "R-152-C4": partial(_build_resnet, depth=152, stages=3),
    "R-50-FPN": partial(_build_resnet_fpn, depth=50),
    "R-101-FPN": partial(_build_resnet_fpn, depth=101),
    "R-152-FPN": partial(_build_resnet_fpn, depth=152),
    "R-50-FPN-RETINANET": partial(_build_resnet_fpn, depth=50, retinanet=True),
    "R-101-FPN-RETINANET": partial(_build_resnet_fpn, depth=101, retinanet=True),
    "MobileNetV2-C4": _build_mobilenetv2,
    **{name: partial(_build_fbnetv3, name=name) for name in ARCHITECTURES},
}
for _name, _builder in _BUILDERS.items():
    BACKBONES.register(_name, _builder)
