"""From candidates to detections: of those that show the same object one is kept.

Besides plain NMS there are Soft-NMS and box voting (Gidaris & Komodakis 2015, arXiv:1505.01749,
section 5, with the scoring methods of Detectron).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from yacs.config import CfgNode

from maskrcnn_lib.layers.nms import batched_nms_fixed
from maskrcnn_lib.layers.soft_nms import soft_nms_fixed
from maskrcnn_lib.modeling.outputs import Detections, fill_slots, pick
from maskrcnn_lib.structures.boxlist_ops import pairwise_iou

# Candidates of an image that go into NMS at most, the best ones. COCO models send some hundreds;
# the bound makes sizes fixed on a GPU, and keeps time and memory in hand where thresholds are low.
MAX_CANDIDATES = 8192


class Candidates(NamedTuple):
    """Boxes of N images, C per image, several of which may show the same object.

    Attributes:
        boxes: (N, C, 4) float32, xyxy in pixels of the resized image.
        scores: (N, C) float32 in 0..1; -inf where there is none.
        labels: (N, C) int64, classes from 1.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def join_candidates(parts: Sequence[Candidates]) -> Candidates:
    """All candidates of several looks at the same images; of too many the best."""
    joined = Candidates(*(torch.cat(fields, dim=1) for fields in zip(*parts, strict=True)))
    if joined.scores.shape[1] <= MAX_CANDIDATES:
        return joined
    best = joined.scores.topk(MAX_CANDIDATES, dim=1).indices
    return Candidates(*(pick(field, best) for field in joined))


class SoftNMS(NamedTuple):
    """How scores of overlapping detections fall; see ``layers/soft_nms.py``.

    Attributes:
        method: "linear", "gaussian" or "hard".
        sigma: width of "gaussian".
        min_score: detections whose score falls below are dropped.
    """

    method: str
    sigma: float
    min_score: float


class Voting(NamedTuple):
    """How a detection's box and score become means over the candidates around it.

    Attributes:
        threshold: candidates of its class vote whose IoU with the detection is at least this.
        scoring: "ID" leaves the score; see ``SCORING_METHODS`` for the others.
        beta: exponent or temperature of some of them.
    """

    threshold: float
    scoring: str = "ID"
    beta: float = 1.0


@dataclass(frozen=True)
class Suppression:
    """Which candidates become detections.

    Attributes:
        nms_threshold: of two detections of a class that overlap more, the better one stays.
        max_detections: that an image keeps; 0 for all.
        soft_nms: lowers the weaker one's score instead of dropping it.
        voting: moves the boxes that stay to the mean of the candidates around.
    """

    nms_threshold: float = 0.5
    max_detections: int = 100
    soft_nms: SoftNMS | None = None
    voting: Voting | None = None

    def __call__(self, candidates: Candidates) -> Detections:
        """Returns the detections, class by class for all images at once."""
        boxes, scores, labels = candidates
        limit = torch.sym_min(self.max_detections or scores.shape[1], scores.shape[1])
        # Votes that change scores change who is among the best.
        rescored = self.voting is not None and self.voting.scoring != "ID"
        chosen, kept, counts = self._keep(candidates, scores.shape[1] if rescored else limit)
        found = {"boxes": pick(boxes, chosen), "scores": kept, "labels": pick(labels, chosen)}
        detections = fill_slots(Detections, counts, **found)
        if self.voting is None:
            return detections
        detections = vote(detections, candidates, self.voting)
        return _best(detections, limit) if rescored else detections

    def _keep(self, candidates: Candidates, limit: int) -> tuple[Tensor, Tensor, Tensor]:
        """Indices (N, limit) of what stays, by descending score; their scores; counts (N,)."""
        boxes, scores, labels = candidates
        threshold = self.nms_threshold
        if self.soft_nms is not None:
            settings = self.soft_nms._asdict()
            return soft_nms_fixed(
                boxes, scores, labels, max_output=limit, iou_threshold=threshold, **settings
            )
        chosen, counts = batched_nms_fixed(boxes, scores, labels, threshold, max_output=limit)
        return chosen, pick(scores, chosen), counts


def _best(detections: Detections, limit: int) -> Detections:
    """The ``limit`` detections with the highest scores, in their order."""
    scores = detections.scores.masked_fill(~detections.valid, -torch.inf)
    order = scores.sort(dim=1, descending=True, stable=True).indices[:, :limit]
    counts = detections.valid.sum(dim=1).clamp(max=limit)
    fields = {name: getattr(detections, name) for name in ("boxes", "scores", "labels")}
    return fill_slots(Detections, counts, **{k: pick(v, order) for k, v in fields.items()})


def vote(detections: Detections, candidates: Candidates, voting: Voting) -> Detections:
    """Moves each detection's box to the mean of the candidates around, weighted by their scores.

    Args:
        detections: of N images, D in each; each was one of the candidates.
        candidates: C in each image.
        voting: who votes, and what becomes of the score.
    """
    votes = candidates.scores.clamp(min=0)[:, None]  # (N, 1, C)
    overlaps = pairwise_iou(detections.boxes, candidates.boxes)  # (N, D, C)
    same = detections.labels[:, :, None] == candidates.labels[:, None]
    exists = (candidates.scores > -torch.inf)[:, None]
    voters = (overlaps >= voting.threshold) & same & exists
    weights = (voters * votes).to(candidates.boxes.dtype)
    total = weights.sum(dim=2, keepdim=True)
    with torch.autocast(weights.device.type, enabled=False):  # which would round the coordinates
        boxes = weights @ candidates.boxes / total.clamp(min=torch.finfo(total.dtype).tiny)
    boxes = torch.where(total > 0, boxes, detections.boxes)
    if voting.scoring == "ID":
        return detections._replace(boxes=boxes)
    rescore = SCORING_METHODS[voting.scoring]
    scores = rescore(votes, voters.to(votes.dtype), overlaps, voting.beta)
    scores = torch.where(total[..., 0] > 0, scores, detections.scores)
    return detections._replace(boxes=boxes, scores=scores.to(detections.scores))


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over the last dimension; 0 where there is no weight."""
    total = weights.sum(dim=-1)
    return (values * weights).sum(dim=-1) / total.clamp(min=torch.finfo(total.dtype).tiny)


def _sharpened(scores: Tensor, voters: Tensor, overlaps: Tensor, beta: float) -> Tensor:
    """Mean of the scores after a softmax of temperature beta between object and none."""
    object_, none = (torch.log(p.clamp(min=1e-20)) / beta for p in (scores, 1 - scores))
    return _mean(torch.sigmoid(object_ - none), voters)


def _mean_score(scores: Tensor, voters: Tensor, overlaps: Tensor, beta: float) -> Tensor:
    return _mean(scores, voters)


def _mean_by_overlap(scores: Tensor, voters: Tensor, overlaps: Tensor, beta: float) -> Tensor:
    return _mean(scores, voters * overlaps)


def _power_mean(scores: Tensor, voters: Tensor, overlaps: Tensor, beta: float) -> Tensor:
    return _mean(scores**beta, voters) ** (1 / beta)


def _near_sum(scores: Tensor, voters: Tensor, overlaps: Tensor, beta: float) -> Tensor:
    """The sum of the scores over the number of voters to the power of beta."""
    return (scores * voters).sum(dim=-1) / voters.sum(dim=-1).clamp(min=1) ** beta


# Detectron's names: each maps scores (N, 1, C), voters (N, D, C) 0 or 1, their IoU (N, D, C) and
# beta to new scores (N, D).
SCORING_METHODS: dict[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {
    "TEMP_AVG": _sharpened,
    "AVG": _mean_score,
    "IOU_AVG": _mean_by_overlap,
    "GENERALIZED_AVG": _power_mean,
    "QUASI_SUM": _near_sum,
}


def build_suppression(cfg: CfgNode) -> Suppression:
    """The suppression that ``MODEL.ROI_HEADS`` and ``TEST`` describe."""
    keys, soft, votes = cfg.MODEL.ROI_HEADS, cfg.TEST.SOFT_NMS, cfg.TEST.BBOX_VOTE
    voting = Voting(votes.VOTE_TH, votes.SCORING_METHOD, votes.SCORING_METHOD_BETA)
    return Suppression(
        keys.NMS,
        max(0, keys.DETECTIONS_PER_IMG),
        soft_nms=SoftNMS(soft.METHOD, soft.SIGMA, soft.MIN_SCORE) if soft.ENABLED else None,
        voting=voting if votes.ENABLED else None,
    )
