"""The region proposal network: head, anchors and the choice of proposals (Faster R-CNN paper)."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from yacs.config import CfgNode

from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.layers.remembered import remembered
from maskrcnn_lib.modeling import registry
from maskrcnn_lib.modeling.backbone.fbnet import build_fbnet_rpn_feature
from maskrcnn_lib.modeling.backbone.fbnetv3 import build_fbnetv3_head
from maskrcnn_lib.modeling.box_coder import BoxCoder
from maskrcnn_lib.modeling.fuse import convolve
from maskrcnn_lib.modeling.losses import LossSum
from maskrcnn_lib.modeling.make_layers import init_normal, make_conv
from maskrcnn_lib.modeling.matcher import Matcher
from maskrcnn_lib.modeling.outputs import Proposals
from maskrcnn_lib.modeling.rpn.anchor_generator import (
    AnchorGenerator,
    build_anchor_generator,
    flatten_anchors,
)
from maskrcnn_lib.modeling.rpn.inference import LevelTables, limit_batch, select_proposals
from maskrcnn_lib.modeling.rpn.loss import RPNLearning, rpn_losses
from maskrcnn_lib.modeling.rpn.neighbourhoods import neighbour_table, neighbourhoods
from maskrcnn_lib.modeling.targets import Targets
from maskrcnn_lib.structures.image_list import ImageList

# Offsets of the RPN are not scaled in any of the toolboxes.
RPN_CODER_WEIGHTS = (1.0, 1.0, 1.0, 1.0)


class RPNHead(nn.Module):
    """A shared convolution, then objectness and offsets for each anchor of each position.

    Args:
        in_channels: channels of the feature maps.
        num_anchors: anchors per position, the same on all levels.
        hidden_channels: of the shared convolution; by default as many as the maps have.
    """

    def __init__(
        self, in_channels: int, num_anchors: int, *, hidden_channels: int | None = None
    ) -> None:
        super().__init__()
        width = hidden_channels or in_channels
        self.conv = nn.Conv2d(in_channels, width, kernel_size=3, padding=1)
        self.cls_logits = nn.Conv2d(width, num_anchors, kernel_size=1)
        self.bbox_pred = nn.Conv2d(width, num_anchors * 4, kernel_size=1)
        for layer in (self.conv, self.cls_logits, self.bbox_pred):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        self._tables: OrderedDict[tuple, Tensor] = OrderedDict()

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Returns per level objectness logits (N, A, H, W) and offsets (N, A * 4, H, W).

        Args:
            features: maps (N, in_channels, H, W), finest first.
        """
        hidden = [convolve(self.conv, feature, relu=True) for feature in features]
        return [self.cls_logits(x) for x in hidden], [self.bbox_pred(x) for x in hidden]

    def at(self, features: Sequence[Tensor], anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits (N, S) and offsets (N, S, 4) of chosen anchors, from nine positions each.

        Args:
            features: maps (N, in_channels, H, W), finest first.
            anchors: (N, S) int64, counted level by level, row by row, position by position.
        """
        per_position = self.cls_logits.out_channels
        number = (anchors % per_position)[:, :, None]
        shapes = tuple((feature.shape[2], feature.shape[3]) for feature in features)
        table = remembered(
            self._tables, (shapes, anchors.device), lambda: neighbour_table(shapes, anchors.device)
        )
        around = neighbourhoods(features, anchors // per_position, table)  # (N, S, 9 * C)
        kernel = self.conv.weight.permute(0, 2, 3, 1).flatten(1)
        hidden = F.relu(F.linear(around, kernel, self.conv.bias))
        # Both layers as one, which says of each anchor its logit and its offsets, A times 5 values.
        layers = self.cls_logits, self.bbox_pred
        weights = [layer.weight.reshape(per_position, -1, hidden.shape[2]) for layer in layers]
        biases = [layer.bias.reshape(per_position, -1) for layer in layers]
        weight, bias = torch.cat(weights, dim=1).flatten(0, 1), torch.cat(biases, dim=1).flatten()
        values = F.linear(hidden, weight, bias).unflatten(-1, (per_position, 5))  # (N, S, A, 5)
        chosen = values.gather(2, number[..., None].expand(-1, -1, -1, 5))[:, :, 0]
        logits, offsets = chosen.split((1, 4), dim=-1)
        return logits.squeeze(-1), offsets


class BlocksRPNHead(nn.Module):
    """The RPN head of FBNet, FBNetV3 and torchvision's second models: blocks, then objectness and
    offsets.

    Args:
        rpn_feature: blocks that map (N, C, H, W) to (N, in_channels, H, W).
        in_channels: channels that the blocks return.
        num_anchors: anchors per position.
    """

    def __init__(self, rpn_feature: nn.Module, in_channels: int, num_anchors: int) -> None:
        super().__init__()
        self.rpn_feature = rpn_feature
        self.cls_logits = nn.Conv2d(in_channels, num_anchors, kernel_size=1)
        self.bbox_pred = nn.Conv2d(in_channels, num_anchors * 4, kernel_size=1)
        for layer in (self.cls_logits, self.bbox_pred):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Returns per level objectness logits (N, A, H, W) and offsets (N, A * 4, H, W)."""
        hidden = [self.rpn_feature(feature) for feature in features]
        return [self.cls_logits(x) for x in hidden], [self.bbox_pred(x) for x in hidden]


@dataclass(frozen=True)
class ProposalLimits:
    """How many proposals there are at each point.

    Attributes:
        pre_nms_top_n: anchors that each level sends into NMS.
        post_nms_top_n: proposals that a level keeps after NMS.
        max_proposals: proposals that an image keeps.
        per_batch: max_proposals is for all images of the batch together, as in Detectron.
    """

    pre_nms_top_n: int
    post_nms_top_n: int
    max_proposals: int
    per_batch: bool = False


class Predictions(NamedTuple):
    """What the head says about the A anchors of each of N images, level by level.

    Attributes:
        anchors: (A_l, 4) per level, or (A, 4) of all levels; xyxy in pixels.
        objectness: per level (N, A_l) logits.
        offsets: per level (N, A_l, 4).
        feature_shapes: height and width of each level.
        image_sizes: (N, 2) heights and widths without padding, in pixels.
    """

    anchors: list[Tensor]
    objectness: list[Tensor]
    offsets: list[Tensor]
    feature_shapes: tuple[tuple[int, int], ...]
    image_sizes: Tensor


class RPNModule(nn.Module):
    """Proposes regions of each image from the backbone's feature maps.

    Args:
        head: maps feature maps to objectness and offsets, as ``RPNHead`` does; where it has a
            method ``at``, too, training goes back through that instead of through whole maps.
        anchor_generator: the reference boxes of each level.
        testing: how many proposals there are at inference.
        training: how many there are in training.
        learning: how the loss chooses anchors and compares them.
        nms_threshold: IoU above which the weaker of two proposals of a level is dropped.
        min_size: smallest width and height of a proposal in pixels.
        score_threshold: smallest objectness of a proposal, from 0 to 1.
        box_coder: turns offsets into boxes; by default with weights 1.
    """

    def __init__(
        self,
        head: nn.Module,
        anchor_generator: AnchorGenerator,
        *,
        testing: ProposalLimits,
        training: ProposalLimits,
        learning: RPNLearning,
        nms_threshold: float,
        min_size: float = 0.0,
        score_threshold: float = 0.0,
        box_coder: BoxCoder | None = None,
    ) -> None:
        super().__init__()
        self.head = head
        self.anchor_generator = anchor_generator
        self.test_limits = testing
        self.train_limits = training
        self.learning = learning
        self.nms_threshold = nms_threshold
        self.min_size = min_size
        self.score_threshold = score_threshold
        self.box_coder = box_coder or BoxCoder(RPN_CODER_WEIGHTS)
        self._level_tables = LevelTables()

    def forward(self, images: ImageList, features: Sequence[Tensor]) -> Proposals:
        """Returns the proposals of each image, clipped to the image without its padding.

        Args:
            images: the padded batch; its tensors give the padded size.
            features: the backbone's maps (N, C, H, W), finest first.
        """
        return self.propose(self.predict(images, features))

    def propose(self, predictions: Predictions) -> Proposals:
        """Returns the proposals that follow from what ``predict`` gave, as many as at inference."""
        return self._propose(predictions, self.test_limits)

    def learn(
        self, images: ImageList, features: Sequence[Tensor], targets: Targets
    ) -> tuple[Proposals, dict[str, LossSum]]:
        """Returns the proposals to train the heads on, without gradient, and the losses.

        Args:
            images: the padded batch.
            features: the backbone's maps (N, C, H, W), finest first.
            targets: ground truth of the N images.
        """
        looks_around = hasattr(self.head, "at")
        with torch.set_grad_enabled(torch.is_grad_enabled() and not looks_around):
            predictions = self.predict(images, features)
        at = partial(self.head.at, features) if looks_around else partial(_at, predictions)
        return self._learn(predictions, targets, at)

    def learn_from(
        self, predictions: Predictions, targets: Targets
    ) -> tuple[Proposals, dict[str, LossSum]]:
        """The same from what ``predict`` gave with gradient, for one who needs that, too."""
        return self._learn(predictions, targets, partial(_at, predictions))

    def _learn(
        self,
        predictions: Predictions,
        targets: Targets,
        at: Callable[[Tensor], tuple[Tensor, Tensor]],
    ) -> tuple[Proposals, dict[str, LossSum]]:
        device = predictions.objectness[0].device
        anchors = torch.cat(predictions.anchors)
        predictions = predictions._replace(anchors=[anchors])  # joined once for both
        losses = rpn_losses(
            anchors,
            self.anchor_generator.names(predictions.feature_shapes, device),
            predictions.image_sizes,
            targets,
            at,
            box_coder=self.box_coder,
            learning=self.learning,
        )
        with torch.no_grad():
            return self._propose(predictions, self.train_limits), losses

    def predict(self, images: ImageList, features: Sequence[Tensor]) -> Predictions:
        """Returns what the head says about every anchor; arguments as for ``forward``."""
        objectness, offsets = self.head(features)
        padded_height, padded_width = images.tensors.shape[-2:]
        device = features[0].device
        shapes = tuple((feature.shape[-2], feature.shape[-1]) for feature in features)
        return Predictions(
            self.anchor_generator(shapes, (padded_height, padded_width), device),
            [flatten_anchors(level, 1).squeeze(-1) for level in objectness],
            [flatten_anchors(level, 4) for level in offsets],
            shapes,
            images.size_tensor(),
        )

    def _propose(self, predictions: Predictions, limits: ProposalLimits) -> Proposals:
        proposals = select_proposals(
            predictions.anchors,
            predictions.objectness,
            predictions.offsets,
            predictions.image_sizes,
            box_coder=self.box_coder,
            pre_nms_top_n=limits.pre_nms_top_n,
            post_nms_top_n=limits.post_nms_top_n,
            max_proposals=limits.max_proposals,
            nms_threshold=self.nms_threshold,
            min_size=self.min_size,
            score_threshold=self.score_threshold,
            tables=self._level_tables,
        )
        return limit_batch(proposals, limits.max_proposals) if limits.per_batch else proposals


def _at(predictions: Predictions, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, S) and offsets (N, S, 4) of the anchors (N, S), out of those of all anchors."""
    logits = torch.cat(predictions.objectness, dim=1).gather(1, anchors)
    chosen = anchors[:, :, None].expand(-1, -1, 4)
    return logits, torch.cat(predictions.offsets, dim=1).gather(1, chosen)


@registry.RPN_HEADS.register("SingleConvRPNHead")
def build_single_conv_rpn_head(cfg: CfgNode, in_channels: int, num_anchors: int) -> RPNHead:
    """The head of Faster R-CNN."""
    width = cfg.MODEL.RPN.CONV_DIM
    return RPNHead(in_channels, num_anchors, hidden_channels=width if width > 0 else None)


@registry.RPN_HEADS.register("StackedConvRPNHead")
def build_stacked_conv_rpn_head(cfg: CfgNode, in_channels: int, num_anchors: int) -> BlocksRPNHead:
    """``MODEL.RPN.NUM_CONVS`` convolutions in place of one, as in torchvision's second models."""
    layers: list[nn.Module] = []
    for _ in range(cfg.MODEL.RPN.NUM_CONVS):
        init = partial(init_normal, std=0.01)
        layers += make_conv(in_channels, in_channels, relu=True, init=init)
    return BlocksRPNHead(nn.Sequential(*layers), in_channels, num_anchors)


@registry.RPN_HEADS.register("FBNetV3.rpn_head")
def build_fbnetv3_rpn_head(cfg: CfgNode, in_channels: int, num_anchors: int) -> BlocksRPNHead:
    """The head of D2Go's FBNetV3 models."""
    rpn_feature = build_fbnetv3_head(cfg, in_channels, "RPN")
    return BlocksRPNHead(rpn_feature, rpn_feature.out_channels, num_anchors)


@registry.RPN_HEADS.register("FBNet.rpn_head")
def build_fbnet_rpn_head(cfg: CfgNode, in_channels: int, num_anchors: int) -> BlocksRPNHead:
    """The head of the architecture that ``MODEL.FBNET`` describes."""
    rpn_feature = build_fbnet_rpn_feature(cfg, in_channels)
    return BlocksRPNHead(rpn_feature, rpn_feature.out_channels, num_anchors)


def build_rpn(cfg: CfgNode, in_channels: int) -> RPNModule:
    """The region proposal network that ``MODEL.RPN`` describes.

    Args:
        cfg: the whole config.
        in_channels: channels of the backbone's feature maps.
    """
    settings, dialect = cfg.MODEL.RPN, get_dialect(cfg.MODEL.DIALECT)
    anchor_generator = build_anchor_generator(cfg)
    per_location = set(anchor_generator.num_anchors_per_location())
    if len(per_location) != 1:
        raise ValueError(
            "MODEL.RPN.ANCHOR_SIZES gives the levels different numbers of anchors "
            f"{sorted(per_location)}, but one head serves all levels"
        )
    head = registry.RPN_HEADS[settings.RPN_HEAD](cfg, in_channels, per_location.pop())
    learning = RPNLearning(
        Matcher(
            settings.FG_IOU_THRESHOLD, settings.BG_IOU_THRESHOLD, allow_low_quality_matches=True
        ),
        batch_size=settings.BATCH_SIZE_PER_IMAGE,
        positive_fraction=settings.POSITIVE_FRACTION,
        straddle=settings.STRADDLE_THRESH,
        beta=dialect.rpn_loss_beta if settings.SMOOTH_L1_BETA < 0 else settings.SMOOTH_L1_BETA,
    )
    return RPNModule(
        head,
        anchor_generator,
        testing=_proposal_limits(cfg, "TEST"),
        training=_proposal_limits(cfg, "TRAIN"),
        learning=learning,
        nms_threshold=settings.NMS_THRESH,
        min_size=settings.MIN_SIZE,
        score_threshold=settings.SCORE_THRESH,
        box_coder=BoxCoder(RPN_CODER_WEIGHTS, limit_shrinking=dialect.limit_shrinking),
    )


def _proposal_limits(cfg: CfgNode, phase: Literal["TRAIN", "TEST"]) -> ProposalLimits:
    settings = cfg.MODEL.RPN
    per_level = settings[f"POST_NMS_TOP_N_{phase}"]
    # maskrcnn-benchmark limits the sum over the levels only where there are levels to sum up.
    merged = settings[f"FPN_POST_NMS_TOP_N_{phase}"] if settings.USE_FPN else per_level
    return ProposalLimits(
        settings[f"PRE_NMS_TOP_N_{phase}"],
        per_level,
        merged,
        per_batch=phase == "TRAIN" and settings.USE_FPN and settings.FPN_POST_NMS_PER_BATCH,
    )
