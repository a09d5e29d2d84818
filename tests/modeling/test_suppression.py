"""Box voting, with values worked out by hand and by a loop in float64; and joined candidates."""

import math

import numpy as np
import pytest
import torch

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling import suppression
from maskrcnn_lib.modeling.suppression import (
    SCORING_METHODS,
    Candidates,
    Suppression,
    Voting,
    build_suppression,
    join_candidates,
    vote,
)

# A box, one inside it with IoU 0.8, one of another class at the same place, and one far away.
BOXES = [[0.0, 0, 10, 10], [0.0, 0, 10, 8], [0.0, 0, 10, 10], [50.0, 50, 60, 60]]
CANDIDATES = Candidates(
    torch.tensor([BOXES]), torch.tensor([[0.9, 0.6, 0.7, 0.5]]), torch.tensor([[1, 1, 2, 1]])
)


def test_a_box_becomes_the_mean_of_those_around_weighted_by_score():
    found = Suppression(0.5, 100, voting=Voting(0.8))(CANDIDATES)
    assert found.labels.tolist() == [[1, 2, 1]]
    expected = torch.tensor([[0.0, 0, 10, (0.9 * 10 + 0.6 * 8) / 1.5], BOXES[2], BOXES[3]])
    torch.testing.assert_close(found.boxes[0], expected)
    torch.testing.assert_close(found.scores, torch.tensor([[0.9, 0.7, 0.5]]))


def test_boxes_below_the_threshold_do_not_vote():
    found = Suppression(0.5, 100, voting=Voting(0.81))(CANDIDATES)
    torch.testing.assert_close(found.boxes[0, 0], torch.tensor(BOXES[0]))


@pytest.mark.parametrize(
    ("scoring", "beta", "expected"),
    [
        ("AVG", 1.0, 0.75),
        ("IOU_AVG", 1.0, (0.9 * 1.0 + 0.6 * 0.8) / 1.8),
        ("GENERALIZED_AVG", 2.0, math.sqrt((0.81 + 0.36) / 2)),
        ("QUASI_SUM", 0.5, 1.5 / math.sqrt(2)),
        ("TEMP_AVG", 1.0, 0.75),
        # A temperature of 1/2 squares the odds.
        ("TEMP_AVG", 0.5, (0.81 / (0.81 + 0.01) + 0.36 / (0.36 + 0.16)) / 2),
    ],
)
def test_scores_by_each_of_detectrons_methods(scoring, beta, expected):
    found = Suppression(0.5, 100, voting=Voting(0.8, scoring, beta))(CANDIDATES)
    (score,) = [s for s, box in zip(found.scores[0], found.boxes[0], strict=True) if box[3] < 10]
    assert score == pytest.approx(expected, abs=1e-6)


def test_new_scores_decide_who_is_among_the_best():
    """0.9 and 0.5 average to 0.7, below the 0.8 of a box that stands alone."""
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0.0, 0, 10, 10], [50.0, 50, 60, 60]]])
    candidates = Candidates(boxes, torch.tensor([[0.9, 0.5, 0.8]]), torch.ones(1, 3).long())
    found = Suppression(0.5, 1, voting=Voting(0.8, "AVG"))(candidates)
    assert found.boxes[0].tolist() == [[50.0, 50, 60, 60]]
    assert found.scores[0].tolist() == pytest.approx([0.8])
    both = Suppression(0.5, 2, voting=Voting(0.8, "AVG"))(candidates)
    assert both.scores[0].tolist() == pytest.approx([0.8, 0.7])


def by_hand(boxes, scores, labels, box, label, threshold):
    """The voted box of one detection, in float64."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    side = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    common = side.clip(min=0).prod(axis=1)
    iou = common / (area + (box[2] - box[0]) * (box[3] - box[1]) - common)
    voters = (iou >= threshold) & (labels == label) & (scores > -np.inf)
    return np.average(boxes[voters], axis=0, weights=scores[voters])


def test_votes_equal_a_loop_over_detections():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 40, (2, 200, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(10, 40, (2, 200, 2))), axis=2)
    scores, labels = rng.uniform(0, 1, (2, 200)), rng.integers(1, 4, (2, 200))
    scores[1, 150:] = -np.inf  # padding
    candidates = Candidates(
        torch.tensor(boxes).float(), torch.tensor(scores).float(), torch.tensor(labels)
    )
    kept = Suppression(0.5, 30)(candidates)
    found = vote(kept, candidates, Voting(0.6))
    assert kept.valid.all() and not torch.equal(found.boxes, kept.boxes)
    for image in range(2):
        for box, label, voted in zip(kept.boxes[image], kept.labels[image], found.boxes[image]):  # noqa: B905
            expected = by_hand(
                boxes[image], scores[image], labels[image], box.double().numpy(), int(label), 0.6
            )
            np.testing.assert_allclose(voted.numpy(), expected, atol=1e-4)


def test_half_precision_of_the_network_does_not_round_boxes():
    candidates = CANDIDATES._replace(boxes=CANDIDATES.boxes + 1000)
    rule = Suppression(0.5, 100, voting=Voting(0.8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = rule(candidates)
    torch.testing.assert_close(found.boxes, rule(candidates).boxes)


def test_unused_slots_stay_empty():
    scores = torch.tensor([[0.9, 0.6], [-torch.inf, -torch.inf]])
    candidates = Candidates(torch.tensor([BOXES[:2]] * 2), scores, torch.ones(2, 2).long())
    for scoring in ("ID", *SCORING_METHODS):
        found = Suppression(0.5, 100, voting=Voting(0.5, scoring))(candidates)
        assert found.valid.tolist() == [[True], [False]]
        assert not found.boxes[1].any() and not found.scores[1].any()


def test_of_too_many_candidates_the_best_are_joined(monkeypatch):
    parts = [
        Candidates(torch.full((1, 2, 4), float(i)), torch.tensor([[s, 0.1]]), torch.ones(1, 2))
        for i, s in enumerate((0.3, 0.9, 0.6))
    ]
    assert join_candidates(parts).boxes[0, :, 0].tolist() == [0, 0, 1, 1, 2, 2]
    monkeypatch.setattr(suppression, "MAX_CANDIDATES", 2)
    best = join_candidates(parts)
    assert best.boxes[0, :, 0].tolist() == [1, 2]
    torch.testing.assert_close(best.scores, torch.tensor([[0.9, 0.6]]))


def test_voting_is_detectrons_switch():
    asked = ["TEST.BBOX_VOTE.ENABLED", True, "TEST.BBOX_VOTE.SCORING_METHOD", "AVG"]
    assert build_suppression(get_cfg(None, asked)).voting == Voting(0.8, "AVG", 1.0)
    assert build_suppression(get_cfg()).voting is None
