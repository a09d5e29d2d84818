"""The kinds of error and their costs, by hand and against another implementation."""

import pytest

from maskrcnn_lib.evaluation.coco_eval import evaluate_coco
from maskrcnn_lib.report.errors import Verdict, break_down, judge
from maskrcnn_lib.report.matching import match_images

from .scenes import content, random_scene, results
from .tide_peer import tide

BOX = [10, 10, 40, 40]
SHIFTED = [30, 10, 40, 40]  # overlap 1/3
ASIDE = [60, 60, 20, 20]


def _judge(objects, found):
    scene = content(objects)
    judged = [judge(match) for match in match_images(scene, results(found), "bbox")]
    return judged, break_down(judged, [1, 2])


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ((1, 1, BOX, 0.9), Verdict.FOUND),
        ((1, 2, BOX, 0.9), Verdict.CLASS),
        ((1, 1, SHIFTED, 0.9), Verdict.LOCALISATION),
        ((1, 2, SHIFTED, 0.9), Verdict.BOTH),
        ((1, 1, ASIDE, 0.9), Verdict.BACKGROUND),
    ],
)
def test_verdict_on_one_detection_of_one_object(found, verdict):
    (judged,), _ = _judge([(1, 1, BOX)], [found])
    assert judged.verdicts.tolist() == [verdict]
    assert judged.missed.tolist() == [verdict in (Verdict.BOTH, Verdict.BACKGROUND)]


def test_second_detection_of_an_object_is_a_duplicate():
    (judged,), breakdown = _judge([(1, 1, BOX)], [(1, 1, BOX, 0.9), (1, 1, BOX, 0.8)])
    assert judged.verdicts.tolist() == [Verdict.FOUND, Verdict.DUPLICATE]
    assert judged.concerns.tolist() == [0, 0]
    assert breakdown.costs["duplicate"] == 0.0  # it comes after the last right one


def test_detections_of_an_image_without_objects_are_background():
    judged, _ = _judge([(2, 1, BOX)], [(1, 1, BOX, 0.9)])
    assert judged[0].verdicts.tolist() == [Verdict.BACKGROUND]


def test_detections_in_a_crowd_are_no_errors():
    crowd = (1, 1, [0, 0, 90, 90], {"iscrowd": 1})
    (judged,), breakdown = _judge([crowd, (1, 2, ASIDE)], [(1, 1, BOX, 0.9)])
    assert judged.verdicts.tolist() == [Verdict.IGNORED]
    assert sum(breakdown.counts.values()) == 1  # the missed object


def test_costs_of_one_wrong_class_computed_by_hand():
    # cats: one found by 0.9, one called a dog by 0.8; dogs: one found by 0.7, after the wrong one
    objects = [(1, 1, BOX), (2, 1, BOX), (3, 2, BOX)]
    found = [(1, 1, BOX, 0.9), (2, 2, BOX, 0.8), (3, 2, BOX, 0.7)]
    _, breakdown = _judge(objects, found)
    # cats: precision 1 at the recalls 0 to 0.5, 51 of 101; dogs: precision 1/2 everywhere
    as_it_is = (51 / 101 + 1 / 2) / 2
    assert breakdown.ap == pytest.approx(as_it_is, abs=1e-12)
    assert breakdown.costs["class"] == pytest.approx(1 - as_it_is, abs=1e-12)
    # behind all right ones the wrong dog does no harm; the second cat stays unfound
    assert breakdown.false_positives == pytest.approx((51 / 101 + 1) / 2 - as_it_is, abs=1e-12)
    assert breakdown.false_negatives == pytest.approx((1 + 1 / 2) / 2 - as_it_is, abs=1e-12)
    others = {name: cost for name, cost in breakdown.costs.items() if name != "class"}
    assert set(others.values()) == {0.0}


def test_of_two_errors_about_one_object_the_surer_is_mended_and_the_other_vanishes():
    lower = [10, 30, 40, 40]
    objects = [(1, 1, BOX), (2, 1, BOX)]
    found = [(1, 1, SHIFTED, 0.9), (1, 1, lower, 0.8), (2, 1, BOX, 0.7)]
    (first, _), breakdown = _judge(objects, found)
    assert first.mends.tolist() == [True, False]
    # one of three right: precision 1/3 up to recall 1/2; mended: both found, without a wrong one
    assert breakdown.costs["localisation"] == pytest.approx(1 - 51 / 101 / 3, abs=1e-12)


def test_missed_objects_are_no_longer_asked_for():
    _, breakdown = _judge([(1, 1, BOX), (2, 1, BOX)], [(1, 1, BOX, 0.9)])
    assert breakdown.counts["missed"] == 1
    assert breakdown.costs["missed"] == pytest.approx(1 - 51 / 101, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_costs_and_counts_are_those_of_another_implementation(seed):
    scene, found = random_scene(seed)
    judged = [judge(match) for match in match_images(scene, found, "bbox")]
    breakdown = break_down(judged, [c["id"] for c in scene["categories"]])
    images = [
        (
            [
                (r["category_id"], r["score"], r["bbox"])
                for r in found
                if r["image_id"] == image["id"]
            ],
            [
                (a["category_id"], a["bbox"])
                for a in scene["annotations"]
                if a["image_id"] == image["id"]
            ],
        )
        for image in scene["images"]
    ]
    ap, costs, counts = tide(images)
    assert breakdown.counts == counts
    assert breakdown.ap == pytest.approx(ap, abs=1e-9)
    for name, cost in costs.items():
        assert breakdown.costs[name] == pytest.approx(max(0.0, cost), abs=1e-9), name


@pytest.mark.parametrize("seed", range(3))
def test_its_ap_is_coco_s_ap50(seed):
    scene, found = random_scene(seed, images=30)
    judged = [judge(match) for match in match_images(scene, found, "bbox")]
    ours = break_down(judged, [c["id"] for c in scene["categories"]]).ap
    scores = evaluate_coco(scene, found, "bbox", backend="pycocotools")
    assert ours == pytest.approx(scores.metrics["AP50"], abs=1e-12)
