"""The proposals that the heads learn from: matched with the ground truth and sampled."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from maskrcnn_lib.modeling.matcher import Matcher
from maskrcnn_lib.modeling.outputs import Proposals, host_may_wait, pick
from maskrcnn_lib.modeling.poolers import boxes_to_rois
from maskrcnn_lib.modeling.sampling import (
    IGNORED,
    NEGATIVE,
    POSITIVE,
    labels_of_matches,
    random_keys,
    sample_balanced,
)
from maskrcnn_lib.modeling.targets import Targets

# Where the names of ground-truth boxes begin among those of the proposals. RPN anchors never have
# names from here on, so that the draws of both stages are independent.
PROPOSAL_IDS = 1 << 60
GROUND_TRUTH_IDS = PROPOSAL_IDS + (1 << 32)


class Regions(NamedTuple):
    """Sampled regions of N images in S slots each: positives first, then background.

    Attributes:
        boxes: (N, S, 4) float32, xyxy in pixels.
        labels: (N, S) int64, 0 is background.
        matched: (N, S) int64, which object of the image; 0 where none.
        valid: (N, S) bool, which slots are used; they come first.
        candidates: (N, S) int64, which candidate the region is: the proposals come first, then the
            boxes of the objects themselves; any in unused slots.
        most_positive: no image has more positives than this.
    """

    boxes: Tensor
    labels: Tensor
    matched: Tensor
    valid: Tensor
    candidates: Tensor
    most_positive: int


class Rows(NamedTuple):
    """Regions of all images one behind the other, K of them.

    Attributes:
        rois: (K, 5) float32: index of the image, then xyxy in pixels.
        labels: (K,) int64, 0 is background.
        matched: (K,) int64, which object of the image.
        valid: (K,) bool; false for a row that only fills up.
        positions: (K,) int64, which of the N * S slots, ascending.
    """

    rois: Tensor
    labels: Tensor
    matched: Tensor
    valid: Tensor
    positions: Tensor


@dataclass(frozen=True)
class RegionSampler:
    """Chooses the regions that the heads learn from.

    Attributes:
        matcher: gives each proposal an object or none.
        batch_size: regions per image.
        positive_fraction: largest share of regions with an object among them.
        proposes_objects: whether the ground truth is proposed as well.
        hardest: whether the regions with the highest loss are taken instead of random ones
            (Shrivastava et al. 2016, arXiv:1604.03540), of each kind, as in mmdetection.
    """

    matcher: Matcher
    batch_size: int = 512
    positive_fraction: float = 0.25
    proposes_objects: bool = True
    hardest: bool = False

    @torch.no_grad()
    def __call__(
        self,
        proposals: Proposals,
        targets: Targets,
        *,
        difficulty: Callable[[Regions], Tensor] | None = None,
    ) -> Regions:
        """Returns a sample of the proposals and, where it is proposed as well, the ground truth.

        Args:
            proposals: regions of N images.
            targets: ground truth of the N images.
            difficulty: losses (N, S) >= 0 of regions; only looked at for the hardest.
        """
        if self.hardest:
            count = proposals.valid.shape[1] + targets.valid.shape[1]
            of_all = replace(self, batch_size=count, positive_fraction=1.0, hardest=False)
            regions = of_all(proposals, targets)
            return self._hardest(regions, difficulty(regions))
        boxes = torch.cat((proposals.boxes, targets.boxes), dim=1)  # (N, R + G, 4)
        is_offered = targets.valid if self.proposes_objects else torch.zeros_like(targets.valid)
        valid = torch.cat((proposals.valid, is_offered), dim=1)
        matches = self.matcher.match_boxes(targets.boxes, boxes)  # (N, R + G)
        counts = {PROPOSAL_IDS: proposals.valid.shape[1], GROUND_TRUTH_IDS: targets.valid.shape[1]}
        ids = torch.cat(
            [
                torch.arange(first, first + count, device=boxes.device)
                for first, count in counts.items()
            ]
        )
        sample = sample_balanced(
            labels_of_matches(matches).masked_fill(~valid, IGNORED),
            random_keys(targets.seeds, ids, starts=targets.starts),
            batch_size=self.batch_size,
            positive_fraction=self.positive_fraction,
        )
        background = ~sample.positive
        matched = matches.gather(1, sample.indices).masked_fill(background, 0)
        labels = matched  # all 0, where there are no objects
        if targets.labels.shape[1]:
            labels = targets.labels.gather(1, matched).masked_fill(background, 0)
        return Regions(
            pick(boxes, sample.indices),
            labels,
            matched,
            sample.valid,
            sample.indices,
            min(int(self.batch_size * self.positive_fraction), labels.shape[1]),
        )

    def _hardest(self, regions: Regions, losses: Tensor) -> Regions:
        """The regions with the highest losses (N, S), positives up to their share."""
        kinds = torch.where(regions.labels > 0, POSITIVE, NEGATIVE)
        sample = sample_balanced(
            kinds.masked_fill(~regions.valid, IGNORED),
            # The bits of floating-point numbers >= 0 have the order of the numbers.
            losses.float().view(torch.int32).long(),
            batch_size=self.batch_size,
            positive_fraction=self.positive_fraction,
        )
        indices = sample.indices
        return Regions(
            pick(regions.boxes, indices),
            regions.labels.gather(1, indices).masked_fill(~sample.positive, 0),
            regions.matched.gather(1, indices).masked_fill(~sample.positive, 0),
            sample.valid,
            regions.candidates.gather(1, indices),
            min(int(self.batch_size * self.positive_fraction), indices.shape[1]),
        )


def all_rows(regions: Regions) -> Rows:
    """All sampled regions."""
    if host_may_wait(regions.valid):
        return _rows(regions, _positions(regions.valid), regions.valid)
    # A host that may not wait for the device does not know which are used, so it takes all.
    flat = (part.flatten() for part in (regions.labels, regions.matched, regions.valid))
    slots = torch.arange(regions.valid.numel(), device=regions.valid.device)
    return Rows(boxes_to_rois(regions.boxes), *flat, slots)


def positive_rows(regions: Regions) -> Rows:
    """The regions with an object; on devices other than the CPU with repetitions that do not count.

    See ``_positions`` and ``repeat_positives``.
    """
    positive = regions.labels > 0
    if host_may_wait(positive):
        return _rows(regions, _positions(positive), positive)
    positions, counts = repeat_positives(positive, regions.most_positive)
    return _rows(regions, positions, positive)._replace(valid=counts)


def repeat_positives(positive: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """A fixed number of slots per image, filled up with its positives again and again.

    So a norm over the batch sees nothing but positives, as long as there are any.

    Args:
        positive: (N, S) bool; the positives of an image come first.
        count: slots that are wanted of each image.

    Returns:
        (N * count,) int64 which of the N * S slots, and (N * count,) bool whether it counts.
    """
    numbers = torch.arange(count, device=positive.device)
    positives = positive.sum(dim=1, keepdim=True)  # (N, 1)
    starts = torch.arange(len(positive), device=positive.device)[:, None] * positive.shape[1]
    slots = numbers % positives.clamp(min=1) + starts  # (N, count)
    return slots.flatten(), (numbers < positives).flatten()


def _positions(valid: Tensor) -> Tensor:
    """Which of the N * S slots are used; at least one, so that each layer gets a gradient."""
    positions = valid.flatten().nonzero().flatten()
    return positions if len(positions) else torch.zeros(min(1, valid.numel()), dtype=torch.int64)


def _rows(regions: Regions, positions: Tensor, valid: Tensor) -> Rows:
    return Rows(
        boxes_to_rois(regions.boxes)[positions],
        regions.labels.flatten()[positions],
        regions.matched.flatten()[positions],
        valid.flatten()[positions],
        positions,
    )
