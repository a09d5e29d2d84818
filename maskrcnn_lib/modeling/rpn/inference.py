"""From objectness and offsets of all anchors to the proposals of each image."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from maskrcnn_lib.layers.nms import batched_nms_fixed
from maskrcnn_lib.modeling.box_coder import BoxCoder, clip_boxes
from maskrcnn_lib.modeling.outputs import Proposals, drop_unused_slots
from maskrcnn_lib.utils.transfer import send


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
) -> Proposals:
    """Takes the best anchors of each level, decodes them and thins them out level by level.

    All images are worked on together; nothing waits for the device.

    Args:
        anchors: per level (A, 4), xyxy in pixels.
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
    """
    best = [
        logits.topk(min(pre_nms_top_n, logits.shape[1]), dim=1)  # sigmoid keeps the order
        for logits in objectness
    ]
    scores = torch.cat([level.values for level in best], dim=1).float().sigmoid()  # (N, K)
    levels, firsts = _levels(
        [logits.shape[1] for logits in objectness],
        [level.values.shape[1] for level in best],
        scores.device,
    )
    chosen = torch.cat([level.indices for level in best], dim=1) + firsts  # of all levels
    best_offsets = torch.cat(list(offsets), dim=1).gather(1, chosen[:, :, None].expand(-1, -1, 4))
    boxes = box_coder.decode(best_offsets, torch.cat(list(anchors))[chosen])
    boxes = clip_boxes(boxes, image_sizes)  # (N, K, 4)
    sides = boxes[..., 2:] - boxes[..., :2]
    usable = (sides >= min_size if min_size > 0 else sides > 0).all(dim=-1)
    chosen, counts = batched_nms_fixed(
        boxes,
        scores.masked_fill(~usable, -torch.inf),
        levels.expand(len(boxes), -1),
        nms_threshold,
        max_output=min(max_proposals, scores.shape[1]),
        max_per_group=post_nms_top_n,
    )
    valid = torch.arange(chosen.shape[1], device=boxes.device) < counts[:, None]
    unused = ~valid
    boxes = boxes.gather(1, chosen[:, :, None].expand(-1, -1, 4))
    return drop_unused_slots(
        Proposals(
            boxes.masked_fill(unused[:, :, None], 0.0),
            scores.gather(1, chosen).masked_fill(unused, 0.0),
            valid,
        )
    )


def _levels(
    sizes: Sequence[int], counts: Sequence[int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Of K anchors, ``counts`` of each level: the level, and the number of its first anchor.

    Args:
        sizes: anchors that each level has.
        counts: those of them that are among the K.
        device: of the results, (K,) int64 each.
    """
    firsts = [0, *accumulate(sizes)]
    rows = [
        [value for value, count in zip(values, counts, strict=False) for _ in range(count)]
        for values in (range(len(counts)), firsts)
    ]
    levels, of_level = send(torch.tensor(rows, dtype=torch.int64), device)
    return levels, of_level


def limit_batch(proposals: Proposals, max_proposals: int) -> Proposals:
    """Keeps the best proposals of all images together, as Detectron did in training."""
    count, per_image = proposals.valid.shape
    scores = proposals.scores.masked_fill(~proposals.valid, -torch.inf).flatten()
    best = scores.topk(min(max_proposals, len(scores))).indices
    kept = torch.zeros_like(proposals.valid).flatten().index_fill(0, best, True)
    kept_counts = (kept.view(count, per_image) & proposals.valid).sum(dim=1, keepdim=True)
    # The proposals of an image are sorted by score, so that the kept ones are its first.
    valid = torch.arange(per_image, device=scores.device) < kept_counts
    return drop_unused_slots(
        Proposals(
            proposals.boxes.masked_fill(~valid[:, :, None], 0.0),
            proposals.scores.masked_fill(~valid, 0.0),
            valid,
        )
    )
