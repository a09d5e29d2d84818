"""Gives each prediction (anchor or proposal) the ground-truth object that it overlaps most."""

import torch
from torch import Tensor

from maskrcnn_lib.structures.boxlist_ops import pairwise_iou

# Overlaps that are in memory at once: on the CPU about as many as its cache holds.
BLOCK_CELLS = {"cpu": 1 << 18}
BLOCK_CELLS_ON_GPU = 1 << 26


class Matcher:
    """Assigns at most one ground-truth element to each prediction, by two thresholds.

    A prediction whose best quality is at least ``high_threshold`` gets that element; below
    ``low_threshold`` it gets ``BELOW_LOW_THRESHOLD``, between them ``BETWEEN_THRESHOLDS``.

    Args:
        high_threshold: quality from which a prediction is a match.
        low_threshold: quality below which a prediction is background.
        allow_low_quality_matches: whether predictions that overlap an element as much as no other
            prediction does keep their own best element whatever the quality, so that no element
            goes without a prediction. An element that overlaps nothing makes no match.
    """

    BELOW_LOW_THRESHOLD = -1
    BETWEEN_THRESHOLDS = -2

    def __init__(
        self,
        high_threshold: float,
        low_threshold: float,
        *,
        allow_low_quality_matches: bool = False,
    ) -> None:
        if low_threshold > high_threshold:
            raise ValueError(
                f"low_threshold {low_threshold} must not exceed high_threshold {high_threshold}"
            )
        self.high_threshold = high_threshold
        self.low_threshold = low_threshold
        self.allow_low_quality_matches = allow_low_quality_matches

    def __call__(self, match_quality_matrix: Tensor) -> Tensor:
        """Returns (..., predictions) int64: index of the ground-truth element, or -1 or -2.

        Args:
            match_quality_matrix: (..., elements, predictions) quality, usually IoU. With no
                elements, every prediction is background.
        """
        quality = match_quality_matrix
        if quality.shape[-2] == 0:
            shape = (*quality.shape[:-2], quality.shape[-1])
            return quality.new_full(shape, self.BELOW_LOW_THRESHOLD, dtype=torch.int64)
        best, matches = quality.max(dim=-2)
        matched = best >= self.high_threshold
        if self.allow_low_quality_matches and quality.shape[-1] > 0:
            matched = matched | _equals_highest(quality, quality.amax(dim=-1, keepdim=True))
        return self._where_matched(best, matched, matches)

    def match_boxes(self, elements: Tensor, boxes: Tensor) -> Tensor:
        """The same on the IoU of boxes, which is computed block by block to bound the memory.

        Args:
            elements: (N, G, 4) xyxy; zeros in unused slots, which match nothing.
            boxes: (A, 4) xyxy, the same for all images, or (N, A, 4).

        Returns:
            (N, A) int64: index of the element, or -1 or -2.
        """
        count, elements_per_image = elements.shape[:2]
        total = boxes.shape[-2]
        if elements_per_image == 0 or total == 0:
            return elements.new_full((count, total), self.BELOW_LOW_THRESHOLD, dtype=torch.int64)
        cells = BLOCK_CELLS.get(elements.device.type, BLOCK_CELLS_ON_GPU)
        blocks = boxes.split(max(cells // (count * elements_per_image), 1), dim=-2)
        if len(blocks) == 1:
            return self(pairwise_iou(elements, boxes))
        best, matches, highest = [], [], []
        for block in blocks:
            quality = pairwise_iou(elements, block)  # (N, G, block)
            block_best, block_matches = quality.max(dim=-2)
            best.append(block_best)
            matches.append(block_matches)
            if self.allow_low_quality_matches:
                highest.append(quality.amax(dim=-1))
        all_best = torch.cat(best, dim=-1)
        matched = all_best >= self.high_threshold
        if self.allow_low_quality_matches:
            limit = torch.stack(highest).amax(dim=0).unsqueeze(-1)  # (N, G, 1)
            ties = [_equals_highest(pairwise_iou(elements, block), limit) for block in blocks]
            matched = matched | torch.cat(ties, dim=-1)
        return self._where_matched(all_best, matched, torch.cat(matches, dim=-1))

    def _where_matched(self, best: Tensor, matched: Tensor, matches: Tensor) -> Tensor:
        # One more than BETWEEN_THRESHOLDS is BELOW_LOW_THRESHOLD.
        unmatched = (best < self.low_threshold) + self.BETWEEN_THRESHOLDS
        return torch.where(matched, matches, unmatched)


def _equals_highest(quality: Tensor, highest: Tensor) -> Tensor:
    """(..., predictions) bool: whether an element has its highest quality (..., elements, 1)."""
    return ((quality == highest) & (highest > 0)).any(dim=-2)
