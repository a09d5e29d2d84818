"""PointRend: a coarse mask, refined where it is not sure, point by point and size by size
(Kirillov et al. 2020, arXiv:1912.08193). Layers and losses are mmdetection's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from yacs.config import CfgNode

from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.modeling.box_coder import extend_boxes
from maskrcnn_lib.modeling.losses import LossSum, at_least_float32
from maskrcnn_lib.modeling.make_layers import init_kaiming_normal, make_fc
from maskrcnn_lib.modeling.outputs import Detections, pick
from maskrcnn_lib.modeling.poolers import boxes_to_rois
from maskrcnn_lib.modeling.roi_heads.mask_head.loss import mask_loss
from maskrcnn_lib.modeling.roi_heads.mask_head.point_sampling import (
    cell_middles,
    points_in_map,
    sample_points,
    training_points,
    uncertain_cells,
)
from maskrcnn_lib.modeling.roi_heads.mask_head.targets import MaskTarget, mask_targets
from maskrcnn_lib.modeling.roi_heads.region_head import RegionHead
from maskrcnn_lib.modeling.roi_heads.regions import Rows
from maskrcnn_lib.modeling.targets import Targets

_HIDDEN = 1024
_LOGITS_STD = 0.001


@dataclass(frozen=True)
class PointRule:
    """Which points are looked at.

    Attributes:
        train_points: of each region in training.
        oversampling, uncertain_share: see ``training_points``.
        subdivisions: how often the side of a mask is doubled.
        subdivision_points: cells that are refined after each doubling, the most uncertain ones.
    """

    train_points: int = 196
    oversampling: float = 3.0
    uncertain_share: float = 0.75
    subdivisions: int = 5
    subdivision_points: int = 784


class CoarseExtractor(nn.Module):
    """Features of a region as one vector: a grid of points, halved by a convolution, two layers.

    Args:
        in_channels: of the finest feature map.
        side: of the grid of points.
        scale: cells of that map per pixel.
    """

    def __init__(self, in_channels: int, *, side: int, scale: float) -> None:
        super().__init__()
        self.side, self.scale = side, scale
        self.downsample = nn.Conv2d(in_channels, in_channels, kernel_size=2, stride=2)
        init_kaiming_normal(self.downsample)
        flat = in_channels * (side // 2) ** 2
        self.fcs = nn.ModuleList([make_fc(flat, _HIDDEN), make_fc(_HIDDEN, _HIDDEN)])
        self.out_channels = _HIDDEN

    def forward(self, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Returns (K, 1024).

        Args:
            features: the backbone's maps (N, C, H, W), of which the first one is read.
            rois: (K, 5) index of the image, then xyxy in pixels.
        """
        grid = cell_middles(self.side, rois.device).expand(rois.shape[0], -1, -1)
        x = self.at(features, rois, grid).unflatten(2, (self.side, self.side))
        x = F.relu(self.downsample(x)).flatten(1)
        for fc in self.fcs:
            x = F.relu(fc(x))
        return x

    def at(self, features: Sequence[Tensor], rois: Tensor, points: Tensor) -> Tensor:
        """The first map's features (K, C, P) at points (K, P, 2) of the regions, 0..1."""
        size = (features[0].shape[2], features[0].shape[3])
        places = points_in_map(points, rois, size, self.scale)
        return sample_points(features[0], rois[:, 0].long(), places)


class CoarsePredictor(nn.Module):
    """A small map of logits for each class, from one vector per region.

    Args:
        in_channels: length of the vector.
        classes: without background.
        side: of the maps.
    """

    def __init__(self, in_channels: int, classes: int, side: int) -> None:
        super().__init__()
        self.shape = (classes, side, side)
        self.fc_logits = nn.Linear(in_channels, classes * side * side)
        nn.init.normal_(self.fc_logits.weight, std=_LOGITS_STD)
        nn.init.zeros_(self.fc_logits.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (K, classes, side, side) logits of x (K, in_channels)."""
        return self.fc_logits(x).unflatten(1, self.shape)


class PointHead(nn.Module):
    """Logits of a point from the features there and from what the coarse mask says.

    Args:
        in_channels: of the features.
        classes: without background; the coarse mask has a logit of each.
        hidden: channels of the layers.
        layers: before the last one; each sees the coarse logits.
    """

    def __init__(self, in_channels: int, classes: int, *, hidden: int, layers: int) -> None:
        super().__init__()
        widths = [in_channels, *[hidden] * (layers - 1)]
        self.fcs = nn.ModuleList(nn.Conv1d(width + classes, hidden, 1) for width in widths)
        for layer in self.fcs:
            init_kaiming_normal(layer)
        self.fc_logits = nn.Conv1d(hidden + classes, classes, 1)
        nn.init.normal_(self.fc_logits.weight, std=_LOGITS_STD)
        nn.init.zeros_(self.fc_logits.bias)

    def forward(self, x: Tensor, coarse: Tensor) -> Tensor:
        """Returns (K, classes, P) logits of x (K, in_channels, P) and coarse (K, classes, P)."""
        coarse = coarse.to(x.dtype)
        for layer in self.fcs:
            x = F.relu(layer(torch.cat((x, coarse), dim=1)))
        return self.fc_logits(torch.cat((x, coarse), dim=1))


class PointRendHead(RegionHead):
    """A mask head whose masks are refined point by point; its losses are ``loss_mask`` of the
    coarse mask and ``loss_point``.

    Args:
        feature_extractor: a ``CoarseExtractor``.
        predictor: a ``CoarsePredictor``.
        point_head: a ``PointHead``.
        rule: which points are looked at.
        target: what the coarse mask is compared with, see ``mask_targets``.
        box_end_offset: added to x2 and y2 of the regions that the masks cover.
    """

    def __init__(
        self,
        feature_extractor: CoarseExtractor,
        predictor: CoarsePredictor,
        point_head: PointHead,
        *,
        rule: PointRule,
        target: MaskTarget = "raster",
        box_end_offset: float = 0.0,
    ) -> None:
        super().__init__(feature_extractor, predictor, box_end_offset=box_end_offset)
        self.point_head = point_head
        self.rule = rule
        self.target: MaskTarget = target

    def forward(self, features: Sequence[Tensor], detections: Detections) -> Detections:
        """Returns the detections with masks of M x M, M the coarse side doubled ``subdivisions``
        times; arguments as of ``RegionHead.forward``."""
        rois = boxes_to_rois(detections.boxes)
        channels = (detections.labels.flatten() - 1).clamp(min=0)[:, None]
        logits = self._subdivide(features, rois, channels)
        masks = logits.sigmoid().unflatten(0, detections.labels.shape)
        return detections._replace(masks=masks)

    def _extract(self, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        return self.feature_extractor(features, extend_boxes(rois, self.box_end_offset))

    def _losses(
        self, x: Tensor, features: Sequence[Tensor], rows: Rows, targets: Targets
    ) -> dict[str, LossSum]:
        """``loss_mask`` and ``loss_point``, the binary cross entropy of the coarse mask and of the
        points."""
        rois = extend_boxes(rows.rois, self.box_end_offset)
        channels = (rows.labels - 1).clamp(min=0)[:, None]
        coarse = at_least_float32(self.predictor(x))
        own = pick(coarse, channels)[:, 0]  # (K, side, side)
        settings = {"box_end_offset": self.box_end_offset}
        goal = mask_targets(targets, rows, own.shape[-1], method=self.target, **settings)
        points = training_points(
            own,
            rows._replace(rois=rois),
            targets,
            count=self.rule.train_points,
            oversampling=self.rule.oversampling,
            uncertain_share=self.rule.uncertain_share,
        )
        found = pick(self._refine(features, rois, coarse, points), channels)  # (K, 1, P)
        # Points are compared with the mask at the resolution that inference ends with.
        finest = own.shape[-1] << self.rule.subdivisions
        whole = mask_targets(targets, rows, finest, method="raster", **settings)
        owners = torch.arange(len(rois), device=rois.device)
        truth = sample_points(whole[:, None], owners, points)  # (K, 1, P)
        return {
            "loss_mask": mask_loss(own, goal, rows.valid),
            "loss_point": mask_loss(found, truth, rows.valid),
        }

    def _subdivide(self, features: Sequence[Tensor], rois: Tensor, channels: Tensor) -> Tensor:
        """(K, M, M) logits of one channel (K, 1) of each region."""
        coarse = self.predictor(self._extract(features, rois)).float()
        rois = extend_boxes(rois, self.box_end_offset)
        logits = pick(coarse, channels)  # (K, 1, side, side)
        for step in range(1, self.rule.subdivisions + 1):
            logits = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
            side = logits.shape[-1]
            if step < self.rule.subdivisions and self.rule.subdivision_points >= 4 * side * side:
                continue  # all cells of the next size are refined
            cells = uncertain_cells(logits[:, 0], min(self.rule.subdivision_points, side * side))
            points = cell_middles(side, rois.device)[cells]  # (K, P, 2)
            found = pick(self._refine(features, rois, coarse, points), channels)
            logits = logits.flatten(2).scatter(2, cells[:, None], found.to(logits))
            logits = logits.view(-1, 1, side, side)
        return logits[:, 0]

    def _refine(
        self, features: Sequence[Tensor], rois: Tensor, coarse: Tensor, points: Tensor
    ) -> Tensor:
        """(K, classes, P) logits at points (K, P, 2) of the regions."""
        owners = torch.arange(rois.shape[0], device=rois.device)
        at_points = self.feature_extractor.at(features, rois, points)
        return self.point_head(at_points, sample_points(coarse, owners, points))


def build_point_rend_head(cfg: CfgNode, in_channels: int) -> PointRendHead:
    """The head of ``MODEL.ROI_MASK_HEAD`` and ``MODEL.POINT_HEAD``.

    Args:
        cfg: the whole config.
        in_channels: channels of the backbone's feature maps.
    """
    head, keys = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.POINT_HEAD
    classes = cfg.MODEL.ROI_BOX_HEAD.NUM_CLASSES - 1
    dialect = get_dialect(cfg.MODEL.DIALECT)
    side = head.POOLER_RESOLUTION
    extractor = CoarseExtractor(in_channels, side=side, scale=head.POOLER_SCALES[0])
    return PointRendHead(
        extractor,
        CoarsePredictor(extractor.out_channels, classes, side // 2),
        PointHead(in_channels, classes, hidden=keys.FC_DIM, layers=keys.NUM_FC),
        rule=PointRule(
            train_points=keys.TRAIN_NUM_POINTS,
            oversampling=keys.OVERSAMPLE_RATIO,
            uncertain_share=keys.IMPORTANCE_SAMPLE_RATIO,
            subdivisions=keys.SUBDIVISION_STEPS,
            subdivision_points=keys.SUBDIVISION_NUM_POINTS,
        ),
        target=dialect.mask_target,
        box_end_offset=dialect.box_end_offset,
    )
