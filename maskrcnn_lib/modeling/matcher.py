"""Gives each prediction (anchor or proposal) the ground-truth object that it overlaps most."""

import torch
from torch import Tensor


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
            matched = matched | _best_of_an_element(quality)
        unmatched = torch.where(
            best < self.low_threshold, self.BELOW_LOW_THRESHOLD, self.BETWEEN_THRESHOLDS
        )
        return torch.where(matched, matches, unmatched)


def _best_of_an_element(quality: Tensor) -> Tensor:
    """(..., predictions) bool: whether no prediction overlaps some element more than this one."""
    highest = quality.amax(dim=-1, keepdim=True)  # (..., elements, 1)
    return ((quality == highest) & (highest > 0)).any(dim=-2)
