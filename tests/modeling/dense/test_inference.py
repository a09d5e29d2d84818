"""The choice of pairs of anchor and class, against sorting all of them."""

import pytest
import torch

from maskrcnn_lib.modeling.box_coder import BoxCoder, clip_boxes
from maskrcnn_lib.modeling.dense.inference import best_of_level, find_dense_candidates
from maskrcnn_lib.modeling.suppression import Suppression

CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))


def random_level(images, anchors, classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = 80 * torch.rand(anchors, 2, generator=generator)
    extent = 5 + 40 * torch.rand(anchors, 2, generator=generator)
    boxes = torch.cat((corner, corner + extent), dim=1)
    logits = torch.randn(images, anchors, classes, generator=generator)
    return boxes, logits, torch.randn(images, anchors, 4, generator=generator)


@pytest.mark.parametrize("count", [1, 7, 40, 1000])
def test_the_best_pairs_are_those_of_sorting_all(count):
    anchors, logits, offsets = random_level(3, 30, 5)
    best = best_of_level(anchors, logits, offsets, box_coder=CODER, count=count)
    for image in range(3):
        values, places = logits[image].flatten().sort(descending=True)
        values, places = values[:count], places[:count]
        torch.testing.assert_close(best.scores[image], values.sigmoid())
        assert torch.equal(best.labels[image], places % 5 + 1)
        rows = places // 5
        expected = CODER.decode(offsets[image, rows], anchors[rows])
        torch.testing.assert_close(best.boxes[image], expected)


def by_definition(level_anchors, level_logits, level_offsets, size, top, threshold, overlap, most):
    """One image and one pair at a time; returns (score, label, box) rows."""
    from torchvision.ops import nms

    found = []
    for anchors, logits, offsets in zip(level_anchors, level_logits, level_offsets, strict=True):
        scores = logits.sigmoid()
        pairs = [
            (scores[a, k].item(), k + 1, a)
            for a in range(len(scores))
            for k in range(scores.shape[1])
            if scores[a, k] > threshold
        ]
        for score, label, a in sorted(pairs, reverse=True)[:top]:
            box = CODER.decode(offsets[a : a + 1], anchors[a : a + 1])
            found.append((score, label, clip_boxes(box[None], torch.tensor([size]))[0, 0]))
    kept = []
    for label in {label for _, label, _ in found}:
        of_class = [row for row in found if row[1] == label]
        boxes, scores = (
            torch.stack([r[2] for r in of_class]),
            torch.tensor([r[0] for r in of_class]),
        )
        kept += [of_class[i] for i in nms(boxes, scores, overlap).tolist()]
    return sorted(kept, key=lambda row: -row[0])[:most]


@pytest.mark.parametrize(
    ("top", "threshold", "most"), [(1000, 0.3, 100), (12, 0.5, 100), (1000, 0.05, 9), (5, 0.97, 9)]
)
def test_detections_are_those_of_the_definition(top, threshold, most):
    levels = [random_level(2, 30, 4, seed=1), random_level(2, 12, 4, seed=2)]
    anchors, logits, offsets = zip(*levels, strict=True)
    sizes = torch.tensor([[90, 110], [60, 50]])
    candidates = find_dense_candidates(
        anchors,
        logits,
        offsets,
        sizes,
        box_coder=CODER,
        pre_nms_top_n=top,
        score_threshold=threshold,
    )
    found = Suppression(0.4, most)(candidates)
    for image in range(2):
        expected = by_definition(
            anchors,
            [level[image] for level in logits],
            [level[image] for level in offsets],
            sizes[image].tolist(),
            *(top, threshold, 0.4, most),
        )
        valid = found.valid[image]
        assert valid.sum() == len(expected)
        assert not found.boxes[image][~valid].any() and not found.labels[image][~valid].any()
        assert found.labels[image][valid].tolist() == [row[1] for row in expected]
        if expected:
            scores = torch.tensor([row[0] for row in expected])
            torch.testing.assert_close(found.scores[image][valid], scores)
            boxes = torch.stack([row[2] for row in expected])
            torch.testing.assert_close(found.boxes[image][valid], boxes)


def test_batches_without_images_give_nothing():
    anchors, logits, offsets = random_level(0, 6, 2)
    candidates = find_dense_candidates(
        [anchors],
        [logits],
        [offsets],
        torch.zeros(0, 2),
        box_coder=CODER,
        pre_nms_top_n=10,
        score_threshold=0.05,
    )
    found = Suppression(0.5, 100)(candidates)
    assert found.boxes.shape[0] == 0
