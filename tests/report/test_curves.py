"""The numbers behind a report's tables and curves."""

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskrcnn_lib.report.curves import measure_kind, training_curves

from .scenes import content, random_scene, results


@pytest.fixture(scope="module")
def measured():
    scene, found = random_scene(11, images=30)
    truth = COCO()
    truth.dataset = scene
    truth.createIndex()
    peer = COCOeval(truth, truth.loadRes([dict(entry) for entry in found]), "bbox")
    peer.evaluate()
    peer.accumulate()
    return measure_kind(scene, found, "bbox"), peer.eval, scene, found


def test_class_rows_are_pycocotools_numbers(measured):
    ours, peer, scene, found = measured
    for k, row in enumerate(ours["classes"]):
        number = scene["categories"][k]["id"]
        assert row[0] == sum(a["category_id"] == number for a in scene["annotations"])
        assert row[1] == sum(r["category_id"] == number for r in found)
        precision = peer["precision"][:, :, k, :, -1]
        expected = [precision[..., 0].mean(), precision[0, :, 0].mean(), precision[5, :, 0].mean()]
        expected += [precision[..., area].mean() for area in (1, 2, 3)]
        expected.append(peer["recall"][:, k, 0, -1].mean())
        for value, wanted in zip(row[2:], expected, strict=True):
            assert value == (None if wanted < 0 else pytest.approx(wanted, abs=1e-6))


def test_curves_are_pycocotools_precision(measured):
    ours, peer, _, _ = measured
    precision = peer["precision"][:, :, :, 0, -1]
    mean = np.array(ours["precision"]["mean"]) / 1000
    assert np.abs(mean - precision.mean(axis=2)).max() <= 5.1e-4  # thousandths
    for name, threshold in (("at_50", 0), ("at_75", 5)):
        curves = np.array(ours["precision"][name]) / 1000
        assert np.abs(curves - precision[threshold].T).max() <= 5.1e-4


def test_classes_without_objects_have_neither_scores_nor_curves():
    scene = content([(1, 1, [10, 10, 40, 40])], classes=2)
    ours = measure_kind(scene, results([(1, 1, [10, 10, 40, 40], 0.9)]), "bbox")
    assert ours["classes"][1] == [0, 0, *[None] * 7]
    assert ours["precision"]["at_50"] == [[1000] * 101, None]
    assert ours["precision"]["mean"][0] == [1000] * 101


def test_keypoint_results_have_no_score_of_small_objects():
    points = {"keypoints": [20, 20, 2] * 17, "num_keypoints": 17}
    scene = content([(1, 1, [10, 10, 60, 60], points)], classes=1)
    found = [{"image_id": 1, "category_id": 1, "score": 0.9, "keypoints": [20, 20, 1] * 17}]
    ours = measure_kind(scene, found, "keypoints")
    (row,) = ours["classes"]
    assert row[:6] == [1, 1, 1.0, 1.0, 1.0, None]
    assert ours["metrics"]["AP"] == 1.0


def test_training_curves_are_grouped_and_long_ones_shortened():
    records = [
        {"iteration": i, "loss": 1 / i, "lr": 0.1, "time": 2.0, "data": 1.0, "memory_mb": 9.0}
        for i in range(1, 2001)
    ]
    records += [{"iteration": 2000, "val/bbox/AP": 0.4, "val/bbox/AP50": 0.6}]
    groups = {group["title"]: group["series"] for group in training_curves(records)}
    assert list(groups) == [
        *("Losses", "Average precision", "Learning rate", "Seconds per iteration")
    ]
    assert [one["name"] for one in groups["Seconds per iteration"]] == ["time", "data"]
    (loss,) = groups["Losses"]
    assert len(loss["points"]) == 400
    # the first point is the mean of five records
    assert loss["points"][0] == [
        3,
        pytest.approx(np.mean([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]), rel=1e-3),
    ]
    assert groups["Average precision"] == [{"name": "val/bbox/AP", "points": [[2000, 0.4]]}]


def test_records_that_are_no_numbers_are_left_out_of_curves():
    (group,) = training_curves(
        [{"iteration": 1, "loss": float("nan")}, {"iteration": 2, "loss": 1.0}]
    )
    assert group["series"][0]["points"] == [[2, 1.0]]
