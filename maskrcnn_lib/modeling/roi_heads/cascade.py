"""Cascade R-CNN: box heads one behind the other, each on the boxes of the one before and trained
for a higher IoU (Cai & Vasconcelos 2018, arXiv:1712.00726); the Mask variant is theirs of 2019
(arXiv:1906.09756).

The toolboxes disagree on how a stage gets its regions in training and on what is averaged at
inference; ``Dialect.resample_stages`` and ``Dialect.average_logits`` tell which way to go.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.modeling.box_coder import BoxCoder, clip_boxes
from maskrcnn_lib.modeling.losses import LossSum
from maskrcnn_lib.modeling.matcher import Matcher
from maskrcnn_lib.modeling.outputs import Detections, Proposals
from maskrcnn_lib.modeling.poolers import boxes_to_rois
from maskrcnn_lib.modeling.roi_heads.box_head.box_head import ROIBoxHead, build_roi_box_head
from maskrcnn_lib.modeling.roi_heads.keypoint_head.keypoint_head import build_roi_keypoint_head
from maskrcnn_lib.modeling.roi_heads.mask_head.mask_head import ROIMaskHead, build_roi_mask_head
from maskrcnn_lib.modeling.roi_heads.regions import (
    Regions,
    RegionSampler,
    Rows,
    all_rows,
    positive_rows,
)
from maskrcnn_lib.modeling.roi_heads.roi_heads import CombinedROIHeads
from maskrcnn_lib.modeling.suppression import Candidates
from maskrcnn_lib.modeling.targets import Targets


class CascadeBoxHead(nn.Module):
    """Box heads in a row; the boxes of the last are taken, and the classes that all agree on.

    Args:
        stages: heads whose regression does not depend on the class.
        samplers: choose the regions that each stage learns from.
        loss_weights: factor on the losses of each stage.
        average_logits: whether class logits are averaged over the stages, instead of probabilities.
        feature_gradient: factor on the gradient that the stages hand to the feature maps.
    """

    def __init__(
        self,
        stages: Sequence[ROIBoxHead],
        samplers: Sequence[RegionSampler],
        *,
        loss_weights: Sequence[float],
        average_logits: bool = False,
        feature_gradient: float = 1.0,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.samplers = tuple(samplers)
        self.loss_weights = tuple(loss_weights)
        self.average_logits = average_logits
        self.feature_gradient = feature_gradient
        self.suppress = stages[-1].suppress

    def forward(
        self, features: Sequence[Tensor], proposals: Proposals, image_sizes: Tensor
    ) -> Detections:
        """Returns the detections of each image; arguments as in ``ROIBoxHead.forward``."""
        return self.suppress(self.candidates(features, proposals, image_sizes))

    def candidates(
        self, features: Sequence[Tensor], proposals: Proposals, image_sizes: Tensor
    ) -> Candidates:
        """Returns what may become a detection; arguments as in ``ROIBoxHead.forward``."""
        logits = []
        for number, stage in enumerate(self.stages, start=1):
            x = stage.feature_extractor(features, boxes_to_rois(proposals.boxes))
            class_logits, box_offsets = stage.predictor(x)
            logits.append(class_logits)
            if number < len(self.stages):
                refined = refine_boxes(box_offsets, proposals.boxes, image_sizes, stage.box_coder)
                proposals = proposals._replace(boxes=refined)
        average = average_classes(logits, of_logits=self.average_logits)
        return self.stages[-1].score(average, box_offsets, proposals, image_sizes)

    def learn(
        self,
        features: Sequence[Tensor],
        proposals: Proposals,
        targets: Targets,
        image_sizes: Tensor,
    ) -> tuple[list[Regions], dict[str, LossSum]]:
        """Returns the regions that each stage looked at, and the weighted losses of each.

        Args:
            features: the backbone's maps (N, C, H, W), finest first.
            proposals: regions of the N images, from which the first stage's are chosen.
            targets: ground truth of the N images.
            image_sizes: (N, 2) heights and widths without padding, in pixels.
        """
        features = [_scale_gradient(level, self.feature_gradient) for level in features]
        seen: list[Regions] = []
        losses: dict[str, LossSum] = {}
        for number, (stage, sampler) in enumerate(zip(self.stages, self.samplers, strict=True)):
            difficulty = partial(stage.difficulty, features)
            regions = sampler(proposals, targets, difficulty=difficulty)
            seen.append(regions)
            rows = all_rows(regions)
            class_logits, box_offsets = stage.predictor(
                stage.feature_extractor(features, rows.rois)
            )
            own = stage.losses(class_logits, box_offsets, rows, targets)
            losses |= _of_stage(own, number, self.loss_weights[number])
            if number + 1 < len(self.stages):
                refined = _refined(regions, rows, box_offsets, image_sizes, stage.box_coder)
                if self.samplers[number + 1].proposes_objects:  # so that none comes twice
                    proposed = regions.candidates < proposals.valid.shape[1]
                    refined = refined._replace(valid=refined.valid & proposed)
                proposals = refined
        return seen, losses


class CascadeMaskHead(nn.Module):
    """A mask head for each stage; at inference the mean of their probabilities.

    Args:
        stages: one head per stage of the box head.
        loss_weights: factor on the loss of each stage.
    """

    def __init__(self, stages: Sequence[ROIMaskHead], *, loss_weights: Sequence[float]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.loss_weights = tuple(loss_weights)

    def forward(self, features: Sequence[Tensor], detections: Detections) -> Detections:
        """Returns the detections with their masks; arguments as in ``RegionHead.forward``."""
        masks = torch.stack([stage(features, detections).masks for stage in self.stages])
        return detections._replace(masks=masks.mean(dim=0))

    def learn(
        self, features: Sequence[Tensor], rows: Sequence[Rows], targets: Targets
    ) -> dict[str, LossSum]:
        """Returns the loss of each stage; ``rows`` holds the regions with an object of each."""
        losses: dict[str, LossSum] = {}
        for number, (stage, own) in enumerate(zip(self.stages, rows, strict=True)):
            loss = stage.learn(features, own, targets)
            losses |= _of_stage(loss, number, self.loss_weights[number])
        return losses


class CascadeROIHeads(CombinedROIHeads):
    """Heads on regions whose box head is a ``CascadeBoxHead``, and whose mask head may be a
    ``CascadeMaskHead``. Other heads learn from the first stage's regions, as in detectron2."""

    def learn(
        self,
        features: Sequence[Tensor],
        proposals: Proposals,
        targets: Targets,
        image_sizes: Tensor,
    ) -> dict[str, LossSum]:
        """Returns the losses of all stages and heads; arguments as in ``CombinedROIHeads``."""
        stages, losses = self.box.learn(features, proposals, targets, image_sizes)
        if isinstance(self.mask, CascadeMaskHead):
            rows = [positive_rows(stage) for stage in stages]
            losses |= self.mask.learn(features, rows, targets)
        elif self.mask is not None:
            losses |= self.mask.learn(features, positive_rows(stages[0]), targets)
        if self.keypoint is not None:
            losses |= self.keypoint.learn(features, positive_rows(stages[0]), targets)
        return losses


@torch.no_grad()
def refine_boxes(
    box_offsets: Tensor, boxes: Tensor, image_sizes: Tensor, box_coder: BoxCoder
) -> Tensor:
    """The boxes (N, R, 4) that a stage hands to the next, clipped to their image.

    Args:
        box_offsets: (N * R, k * 4), whose last four serve all classes.
        boxes: (N, R, 4) xyxy in pixels.
        image_sizes: (N, 2) heights and widths without padding, in pixels.
        box_coder: of the stage.
    """
    decoded = box_coder.decode(box_offsets[:, -4:].reshape(boxes.shape), boxes)
    return clip_boxes(decoded, image_sizes)


def average_classes(logits: Sequence[Tensor], *, of_logits: bool) -> Tensor:
    """Logits (K, C) of the mean over the stages, of their logits or of their probabilities."""
    stages = torch.stack(tuple(logits)).float()  # (stages, K, C)
    return stages.mean(dim=0) if of_logits else stages.softmax(dim=-1).mean(dim=0).log()


@torch.no_grad()
def _refined(
    regions: Regions,
    rows: Rows,
    box_offsets: Tensor,
    image_sizes: Tensor,
    box_coder: BoxCoder,
) -> Proposals:
    """What becomes of a stage's regions, in the same slots; empty boxes are no longer valid.

    Args:
        regions: what the stage looked at.
        rows: the same as the K rows that the stage answered for.
        box_offsets: (K, k * 4) its answer.
        image_sizes: (N, 2).
        box_coder: of the stage.
    """
    of_slots = regions.boxes.new_zeros(regions.valid.numel(), 4)
    of_slots = of_slots.index_copy(0, rows.positions, box_offsets[:, -4:].to(of_slots))
    boxes = refine_boxes(of_slots, regions.boxes, image_sizes, box_coder)
    valid = regions.valid & (boxes[..., 2:] > boxes[..., :2]).all(dim=-1)
    return Proposals(boxes, valid.to(boxes.dtype), valid)


def _of_stage(losses: dict[str, LossSum], number: int, weight: float) -> dict[str, LossSum]:
    return {
        f"{name}_stage{number}": loss._replace(total=loss.total * weight)
        for name, loss in losses.items()
    }


def _scale_gradient(x: Tensor, factor: float) -> Tensor:
    """The same values, whose gradient arrives multiplied by the factor."""
    if factor == 1 or not x.requires_grad:
        return x
    scaled = x.view_as(x)
    scaled.register_hook(lambda gradient: gradient * factor)
    return scaled


def build_cascade_roi_heads(cfg: CfgNode, in_channels: int) -> CascadeROIHeads:
    """The heads of a cascade with a stage for each of ``MODEL.ROI_BOX_CASCADE_HEAD.IOUS``.

    Args:
        cfg: the whole config.
        in_channels: channels of the backbone's feature maps.
    """
    keys, common = cfg.MODEL.ROI_BOX_CASCADE_HEAD, cfg.MODEL.ROI_HEADS
    dialect = get_dialect(cfg.MODEL.DIALECT)
    drawing = {
        "batch_size": common.BATCH_SIZE_PER_IMAGE,
        "positive_fraction": common.POSITIVE_FRACTION,
        "hardest": common.HARDEST_REGIONS,
    }
    # Without a new draw, a later stage takes all the regions there are.
    all_of_them = drawing | {"positive_fraction": 1.0, "hardest": False}
    later = drawing if dialect.resample_stages else all_of_them
    samplers = [RegionSampler(Matcher(keys.IOUS[0], keys.IOUS[0]), **drawing)]
    samplers += [
        RegionSampler(Matcher(iou, iou), **later, proposes_objects=dialect.resample_stages)
        for iou in keys.IOUS[1:]
    ]
    box = CascadeBoxHead(
        [
            build_roi_box_head(cfg, in_channels, offset_weights=weights)
            for weights in keys.BBOX_REG_WEIGHTS
        ],
        samplers,
        loss_weights=keys.LOSS_WEIGHTS,
        average_logits=dialect.average_logits,
        feature_gradient=keys.FEATURE_GRADIENT,
    )
    mask = keypoint = None
    if cfg.MODEL.MASK_ON and keys.MASK_PER_STAGE:
        heads = [build_roi_mask_head(cfg, in_channels) for _ in keys.IOUS]
        mask = CascadeMaskHead(heads, loss_weights=keys.LOSS_WEIGHTS)
    elif cfg.MODEL.MASK_ON:
        mask = build_roi_mask_head(cfg, in_channels)
    if cfg.MODEL.KEYPOINT_ON:
        keypoint = build_roi_keypoint_head(cfg, in_channels)
    return CascadeROIHeads(
        box,
        mask,
        keypoint,
        sampler=samplers[0],
        num_classes=cfg.MODEL.ROI_BOX_HEAD.NUM_CLASSES,
    )
