"""YOLOF: detection on one coarse map (Chen et al. 2021, You Only Look One-level Feature,
arXiv:2103.09460), with mmdetection's details."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from yacs.config import CfgNode

from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.modeling.box_coder import BoxCoder
from maskrcnn_lib.modeling.dense.detector import DenseHead, DetectionLimits
from maskrcnn_lib.modeling.dense.towers import class_layer, conv_tower, init_small
from maskrcnn_lib.modeling.dense.uniform import (
    LearnUniformly,
    UniformMatcher,
    are_centred_on,
)
from maskrcnn_lib.modeling.losses import at_least_float32
from maskrcnn_lib.modeling.make_layers import NormFactory, make_conv
from maskrcnn_lib.modeling.norms import named_norm_factory
from maskrcnn_lib.modeling.rpn.anchor_generator import AnchorGenerator


class YOLOFHead(nn.Module):
    """Class logits and box offsets of each anchor of each position.

    The score of a class is the product of the class's own and of the anchor's objectness, which
    the tower of the boxes says and which has no ground truth of its own. Names and order of
    channels are those of ``RetinaNetHead``, and ``object_logits``.

    Args:
        in_channels: channels of the feature map, and of the towers.
        num_anchors: anchors per position.
        num_classes: foreground classes.
        norm: makes a norm behind each convolution of the towers.
        num_cls_convs: convolutions in the tower of the classes.
        num_reg_convs: convolutions in the tower of boxes and objectness.
        prior: a class's own score at the start of training.
    """

    def __init__(
        self,
        in_channels: int,
        num_anchors: int,
        num_classes: int,
        *,
        norm: NormFactory,
        num_cls_convs: int = 2,
        num_reg_convs: int = 4,
        prior: float = 0.01,
    ) -> None:
        super().__init__()
        self.cls_tower = conv_tower(in_channels, num_cls_convs, norm)
        self.bbox_tower = conv_tower(in_channels, num_reg_convs, norm)
        self.cls_logits = class_layer(in_channels, num_anchors * num_classes, prior=prior)
        self.bbox_pred = make_conv(in_channels, num_anchors * 4, init=init_small)
        self.object_logits = make_conv(in_channels, num_anchors, init=init_small)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Returns per level logits (N, A * K, H, W) and offsets (N, A * 4, H, W).

        Args:
            features: maps (N, in_channels, H, W), finest first.
        """
        towers = [self.bbox_tower(x) for x in features]
        logits = [
            joint_logits(self.cls_logits(self.cls_tower(x)), self.object_logits(tower))
            for x, tower in zip(features, towers, strict=True)
        ]
        return logits, [self.bbox_pred(tower) for tower in towers]


def joint_logits(classes: Tensor, objectness: Tensor) -> Tensor:
    """Logits of ``sigmoid(classes) * sigmoid(objectness)``, at least float32.

    With c and o the two logits it is c + o - log(1 + e^c + e^o). (mmdetection caps e^c and e^o at
    1e8: beyond a logit of 18, where both are sure, its own are higher.)

    Args:
        classes: (N, A * K, H, W), anchor by anchor.
        objectness: (N, A, H, W).
    """
    o = at_least_float32(objectness)[:, :, None]  # (N, A, 1, H, W)
    c = at_least_float32(classes).unflatten(1, (o.shape[1], -1))  # (N, A, K, H, W)
    return (c + o - F.softplus(torch.logaddexp(c, o))).flatten(1, 2)


def build_yolof(cfg: CfgNode, in_channels: int) -> nn.Module:
    """The head that ``MODEL.YOLOF`` describes.

    Args:
        cfg: the whole config.
        in_channels: channels of the backbone's feature map.
    """
    keys, dialect = cfg.MODEL.YOLOF, get_dialect(cfg.MODEL.DIALECT)
    head = YOLOFHead(
        in_channels,
        len(keys.ANCHOR_SIZES),
        keys.NUM_CLASSES - 1,
        norm=named_norm_factory(cfg, "MODEL.YOLOF.NORM"),
        num_cls_convs=keys.NUM_CLS_CONVS,
        num_reg_convs=keys.NUM_REG_CONVS,
        prior=keys.PRIOR_PROB,
    )
    # Growth has a limit and shrinking has none, whatever the dialect.
    box_coder = BoxCoder((1.0, 1.0, 1.0, 1.0), largest_shift=keys.LARGEST_SHIFT)
    matcher = UniformMatcher(keys.MATCHES, keys.MIN_ANCHOR_IOU, keys.MAX_BACKGROUND_IOU)
    return DenseHead(
        head,
        AnchorGenerator(
            [keys.ANCHOR_SIZES], (1.0,), strides=(keys.ANCHOR_STRIDE,), style=dialect.anchors
        ),
        num_classes=keys.NUM_CLASSES,
        learner=LearnUniformly(matcher, box_coder, keys.LOSS_GAMMA, keys.LOSS_ALPHA),
        limits=DetectionLimits(
            keys.PRE_NMS_TOP_N, keys.INFERENCE_TH, keys.NMS_TH, cfg.TEST.DETECTIONS_PER_IMG
        ),
        box_coder=box_coder,
        # What was never taught to be silent is not asked.
        takes_part=are_centred_on,
    )
