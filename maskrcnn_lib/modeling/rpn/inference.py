"""From objectness and offsets of all anchors to the proposals of each image."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from maskrcnn_lib.layers.nms import batched_nms_fixed
from maskrcnn_lib.layers.remembered import remembered
from maskrcnn_lib.modeling.box_coder import BoxCoder, clip_boxes
from maskrcnn_lib.modeling.outputs import Proposals, fill_slots, pick
from maskrcnn_lib.utils.transfer import send


class LevelTables:
    """Level and first anchor of the chosen anchors, brought to the device once per size of map."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple, tuple[Tensor, Tensor]] = OrderedDict()

    def __call__(
        self, sizes: tuple[int, ...], counts: tuple[int, ...], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Of K anchors, ``counts`` of each level: the level, and the number of its first anchor.

        Args:
            sizes: anchors that each level has.
            counts: those of them that are among the K.
            device: of the results, (K,) int64 each.
        """
        key = sizes, counts, device
        return remembered(self._known, key, lambda: self._make(sizes, counts, device))

    @staticmethod
    def _make(
        sizes: tuple[int, ...], counts: tuple[int, ...], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        firsts = [0, *accumulate(sizes)][:-1]
        levels, firsts = (_repeat_each(values, counts) for values in (range(len(sizes)), firsts))
        return send(levels, device), send(firsts, device)


def _repeat_each(values: Sequence[int], counts: Sequence[int]) -> Tensor:
    """(sum of counts,) int64: each value as often as its count says."""
    pairs = list(zip(values, counts, strict=True))
    if torch.compiler.is_compiling():  # numbers are symbols, of which there is no list
        return torch.cat([torch.full((count,), value) for value, count in pairs])
    return torch.tensor([value for value, count in pairs for _ in range(count)], dtype=torch.int64)


def select_proposals(
    anchors: Sequence[Tensor],
    objectness: Sequence[Tensor],
    offsets: Sequence[Tensor],
    image_sizes: Tensor,
    *,
    box_coder: BoxCoder,
    pre_nms_top_n: int,
    post_nms_top_n: int,
    max_proposals: int,
    nms_threshold: float,
    min_size: float,
    score_threshold: float = 0.0,
    tables: LevelTables | None = None,
) -> Proposals:
    """Takes the best anchors of each level, decodes them and thins them out level by level.

    All images are worked on together; nothing waits for the device.

    Args:
        anchors: per level (A_l, 4), or one tensor of all levels; xyxy in pixels.
        objectness: per level (N, A) logits.
        offsets: per level (N, A, 4).
        image_sizes: (N, 2) heights and widths without padding, in pixels.
        box_coder: turns offsets into boxes.
        pre_nms_top_n: anchors that each level sends into NMS.
        post_nms_top_n: proposals that a level keeps after NMS.
        max_proposals: proposals that an image keeps.
        nms_threshold: of two proposals of a level that overlap more, the better one stays.
        min_size: width and height that a proposal must have after clipping to its image; empty
            ones are dropped in any case.
        score_threshold: objectness, from 0 to 1, that a proposal must have.
        tables: keeps what is the same for maps of the same size.
    """
    best = [
        logits.topk(torch.sym_min(pre_nms_top_n, logits.shape[1]), dim=1)  # sigmoid keeps the order
        for logits in objectness
    ]
    scores = torch.cat([level.values for level in best], dim=1).float().sigmoid()  # (N, K)
    levels, firsts = (tables or LevelTables())(
        tuple(logits.shape[1] for logits in objectness),
        tuple(level.values.shape[1] for level in best),
        scores.device,
    )
    chosen = torch.cat([level.indices for level in best], dim=1) + firsts  # of all levels
    best_offsets = pick(torch.cat(list(offsets), dim=1), chosen)
    joined = anchors[0] if len(anchors) == 1 else torch.cat(list(anchors))
    boxes = box_coder.decode(best_offsets, joined[chosen])
    boxes = clip_boxes(boxes, image_sizes)  # (N, K, 4)
    sides = boxes[..., 2:] - boxes[..., :2]
    usable = (sides >= min_size if min_size > 0 else sides > 0).all(dim=-1)
    usable &= scores >= score_threshold
    chosen, counts = batched_nms_fixed(
        boxes,
        scores.masked_fill(~usable, -torch.inf),
        levels.expand(len(boxes), -1),
        nms_threshold,
        max_output=torch.sym_min(max_proposals, scores.shape[1]),
        max_per_group=post_nms_top_n,
    )
    return fill_slots(Proposals, counts, boxes=pick(boxes, chosen), scores=pick(scores, chosen))


def limit_batch(proposals: Proposals, max_proposals: int) -> Proposals:
    """Keeps the best proposals of all images together, as Detectron did in training."""
    count, per_image = proposals.valid.shape
    scores = proposals.scores.masked_fill(~proposals.valid, -torch.inf).flatten()
    best = scores.topk(min(max_proposals, len(scores))).indices
    kept = torch.zeros_like(proposals.valid).flatten().index_fill(0, best, True)
    kept_counts = (kept.view(count, per_image) & proposals.valid).sum(dim=1)
    # The proposals of an image are sorted by score, so that the kept ones are its first.
    return fill_slots(Proposals, kept_counts, boxes=proposals.boxes, scores=proposals.scores)
