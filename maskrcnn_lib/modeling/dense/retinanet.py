"""RetinaNet: two towers of convolutions, shared by all levels (Lin et al. 2017, Focal Loss for
Dense Object Detection, arXiv:1708.02002)."""

from collections.abc import Sequence

from torch import Tensor, nn
from yacs.config import CfgNode

from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.modeling.box_coder import BoxCoder
from maskrcnn_lib.modeling.dense.detector import DenseHead, DetectionLimits
from maskrcnn_lib.modeling.dense.loss import DenseLearning, LearnByOverlap
from maskrcnn_lib.modeling.dense.towers import class_layer, conv_tower, init_small
from maskrcnn_lib.modeling.make_layers import NormFactory, make_conv
from maskrcnn_lib.modeling.matcher import Matcher
from maskrcnn_lib.modeling.norms import group_norm_factory
from maskrcnn_lib.modeling.rpn.anchor_generator import AnchorGenerator


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


def octave_sizes(
    sizes: Sequence[float], octave: float, scales: int, *, whole_pixels: bool = False
) -> list[tuple[float, ...]]:
    """Anchor sizes of each level: its own, and those that divide the octave above it evenly.

    Args:
        sizes: of each level.
        octave: ratio between the sizes of neighbouring levels.
        scales: sizes per level.
        whole_pixels: fractions are cut off, as torchvision does.
    """
    made = [[size * octave ** (scale / scales) for scale in range(scales)] for size in sizes]
    return [tuple(int(size) if whole_pixels else size for size in level) for level in made]


def build_retinanet(cfg: CfgNode, in_channels: int) -> nn.Module:
    """The head that ``MODEL.RETINANET`` describes.

    Args:
        cfg: the whole config.
        in_channels: channels of the backbone's feature maps.
    """
    keys, dialect = cfg.MODEL.RETINANET, get_dialect(cfg.MODEL.DIALECT)
    sizes = octave_sizes(
        keys.ANCHOR_SIZES,
        keys.OCTAVE,
        keys.SCALES_PER_OCTAVE,
        whole_pixels=dialect.whole_anchor_sizes,
    )
    head = RetinaNetHead(
        in_channels,
        keys.SCALES_PER_OCTAVE * len(keys.ASPECT_RATIOS),
        keys.NUM_CLASSES - 1,
        num_convs=keys.NUM_CONVS,
        prior=keys.PRIOR_PROB,
        norm=group_norm_factory(cfg) if keys.USE_GN else None,
    )
    box_coder = BoxCoder(keys.BBOX_REG_WEIGHTS, limit_shrinking=dialect.limit_shrinking)
    matcher = Matcher(keys.FG_IOU_THRESHOLD, keys.BG_IOU_THRESHOLD, allow_low_quality_matches=True)
    learning = DenseLearning(
        gamma=keys.LOSS_GAMMA,
        alpha=keys.LOSS_ALPHA,
        box_loss=keys.BBOX_REG_LOSS,
        beta=keys.BBOX_REG_BETA,
        box_divisor=keys.BBOX_REG_WEIGHT,
        normaliser=dialect.dense_normaliser,
    )
    return DenseHead(
        head,
        AnchorGenerator(
            sizes, keys.ASPECT_RATIOS, strides=keys.ANCHOR_STRIDES, style=dialect.anchors
        ),
        num_classes=keys.NUM_CLASSES,
        learner=LearnByOverlap(matcher, box_coder, learning),
        limits=DetectionLimits(
            keys.PRE_NMS_TOP_N, keys.INFERENCE_TH, keys.NMS_TH, cfg.TEST.DETECTIONS_PER_IMG
        ),
        box_coder=box_coder,
    )
