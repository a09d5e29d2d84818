"""Backbones by name: what ``MODEL.BACKBONE.CONV_BODY`` can say, and how the config becomes one."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from maskrcnn_lib.config.architecture import library_body
from maskrcnn_lib.layers.batch_norm import FrozenBatchNorm2d
from maskrcnn_lib.layers.deform_conv import Deformation
from maskrcnn_lib.modeling.backbone.dilated_encoder import DilatedEncoder
from maskrcnn_lib.modeling.backbone.fbnet import build_fbnet_body
from maskrcnn_lib.modeling.backbone.fbnetv3 import ARCHITECTURES, FBNetV3Body
from maskrcnn_lib.modeling.backbone.fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from maskrcnn_lib.modeling.backbone.mobilenetv2 import MobileNetV2Body, SingleLevelNeck
from maskrcnn_lib.modeling.backbone.resnet import RESNET_BLOCKS, ResNet, ResNetHead
from maskrcnn_lib.modeling.backbone.timm_body import make_timm_body
from maskrcnn_lib.modeling.backbone.torchvision_body import make_torchvision_body
from maskrcnn_lib.modeling.make_layers import NormFactory
from maskrcnn_lib.modeling.norms import group_norm_factory, named_norm_factory, part_norm_factory
from maskrcnn_lib.modeling.registry import BACKBONES

if TYPE_CHECKING:
    from yacs.config import CfgNode

# Strides of the maps that a body of another library gives, by what its name ends with.
_STRIDES = {
    "C4": (16,),
    "C5": (32,),
    "FPN": (4, 8, 16, 32),
    "FPN-RETINANET": (8, 16, 32),
}
# Shallower ResNets are made of basic blocks.
_FIRST_WITH_BOTTLENECKS = 50


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

    Of a name with a slash, such as ``timm/resnet18-FPN``, the part up to the slash is registered,
    ``timm/``, and its builder makes what the rest says.

    Raises:
        KeyError: no backbone of that name is registered.
    """
    library, _, _ = library_body(cfg)
    return BACKBONES[f"{library}/" if library else cfg.MODEL.BACKBONE.CONV_BODY](cfg)


def build_resnet_head(cfg: "CfgNode") -> ResNetHead:
    """Builds ``layer4`` for RoIs, fitting the C4 body that the config describes."""
    options = _resnet_options(cfg)
    del options["stem_out_channels"]
    if 4 not in options.pop("deformable_stages"):
        options["deformation"] = None
    return ResNetHead(dilation=cfg.MODEL.RESNETS.RES5_DILATION, **options)


def _resnet_options(cfg: "CfgNode") -> dict[str, Any]:
    keys = cfg.MODEL.RESNETS
    if len(keys.STAGE_WITH_DCN) != 4:
        raise ValueError(
            f"MODEL.RESNETS.STAGE_WITH_DCN is {keys.STAGE_WITH_DCN}; say True or False for each of "
            "the 4 stages, finest first"
        )
    return {
        "stem_out_channels": keys.STEM_OUT_CHANNELS,
        "res2_out_channels": keys.RES2_OUT_CHANNELS,
        "num_groups": keys.NUM_GROUPS,
        "width_per_group": keys.WIDTH_PER_GROUP,
        "stride_in_1x1": keys.STRIDE_IN_1X1,
        "deformable_stages": [s for s, is_on in enumerate(keys.STAGE_WITH_DCN, start=1) if is_on],
        "deformation": Deformation(keys.WITH_MODULATED_DCN, keys.DEFORMABLE_GROUPS),
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
        basic=depth < _FIRST_WITH_BOTTLENECKS,
        **_resnet_options(cfg),
    )
    return Backbone(body, out_channels=body.out_channels[-1])


def _build_resnet_fpn(cfg: "CfgNode", *, depth: int, retinanet: bool = False) -> Backbone:
    stages = (2, 3, 4) if retinanet else (1, 2, 3, 4)
    body = ResNet(
        RESNET_BLOCKS[depth],
        stages,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT,
        basic=depth < _FIRST_WITH_BOTTLENECKS,
        **_resnet_options(cfg),
    )
    return _with_pyramid(cfg, body, retinanet=retinanet)


def _with_pyramid(cfg: "CfgNode", body: nn.Module, *, retinanet: bool) -> Backbone:
    """``body``, whose ``out_channels`` are those of its maps, below the pyramid of the config."""
    channels = cfg.MODEL.RESNETS.BACKBONE_OUT_CHANNELS
    top_block: nn.Module = LastLevelMaxPool()
    if retinanet:
        from_body = cfg.MODEL.RETINANET.USE_C5
        p6_channels = body.out_channels[-1] if from_body else channels
        top_block = LastLevelP6P7(p6_channels, channels, from_body=from_body)
    fpn = FPN(
        body.out_channels,
        channels,
        norm=part_norm_factory(cfg, "FPN"),
        relu=cfg.MODEL.FPN.USE_RELU,
        top_block=top_block,
        first_stage=2 if retinanet else 1,
    )
    return Backbone(body, fpn, out_channels=fpn.out_channels)


def _build_resnet_dilated_encoder(cfg: "CfgNode", *, depth: int) -> Backbone:
    keys, body = cfg.MODEL.YOLOF, _build_resnet(cfg, depth=depth, stages=4)
    encoder = DilatedEncoder(
        body.out_channels,
        cfg.MODEL.RESNETS.BACKBONE_OUT_CHANNELS,
        width=keys.ENCODER_WIDTH,
        dilations=keys.ENCODER_DILATIONS,
        norm=named_norm_factory(cfg, "MODEL.YOLOF.NORM"),
    )
    return Backbone(body.body, encoder, out_channels=encoder.out_channels)


def _build_fbnet(cfg: "CfgNode") -> Backbone:
    body = build_fbnet_body(cfg)
    return Backbone(body, out_channels=body.out_channels)


def _build_of_library(cfg: "CfgNode", *, make_body: Callable[..., nn.Module]) -> Backbone:
    """A body that ``make_body`` makes from the name between slash and dash, pyramid or not.

    Raises:
        ValueError: the name does not end with a kind of backbone, or the body cannot be had.
    """
    keys = cfg.MODEL.BACKBONE
    _, name, kind = library_body(cfg)
    if kind not in _STRIDES:
        raise ValueError(
            f"MODEL.BACKBONE.CONV_BODY {keys.CONV_BODY!r} must end with one of "
            f"{', '.join(f'-{known}' for known in _STRIDES)}"
        )
    layers = {"layers": keys.OUT_LAYERS} if keys.OUT_LAYERS else {}
    body = make_body(
        name,
        _STRIDES[kind],
        freeze_at=keys.FREEZE_CONV_BODY_AT,
        norm=cfg.MODEL.NORM or "frozen",
        **layers,
    )
    if kind.startswith("FPN"):
        return _with_pyramid(cfg, body, retinanet=kind.endswith("RETINANET"))
    return Backbone(body, out_channels=body.out_channels[-1])


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
    "R-18-FPN": partial(_build_resnet_fpn, depth=18),
    "R-34-FPN": partial(_build_resnet_fpn, depth=34),
    "R-50-FPN": partial(_build_resnet_fpn, depth=50),
    "R-101-FPN": partial(_build_resnet_fpn, depth=101),
    "R-152-FPN": partial(_build_resnet_fpn, depth=152),
    "R-18-FPN-RETINANET": partial(_build_resnet_fpn, depth=18, retinanet=True),
    "R-50-FPN-RETINANET": partial(_build_resnet_fpn, depth=50, retinanet=True),
    "R-101-FPN-RETINANET": partial(_build_resnet_fpn, depth=101, retinanet=True),
    "R-50-C5-YOLOF": partial(_build_resnet_dilated_encoder, depth=50),
    "R-101-C5-YOLOF": partial(_build_resnet_dilated_encoder, depth=101),
    "MobileNetV2-C4": _build_mobilenetv2,
    "FBNet": _build_fbnet,
    "timm/": partial(_build_of_library, make_body=make_timm_body),
    "torchvision/": partial(_build_of_library, make_body=make_torchvision_body),
    **{name: partial(_build_fbnetv3, name=name) for name in ARCHITECTURES},
}
for _name, _builder in _BUILDERS.items():
    BACKBONES.register(_name, _builder)
