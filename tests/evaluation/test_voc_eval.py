"""Pascal VOC's average precision, against hand-computed curves, plain loops and pycocotools."""

import contextlib
import io

import numpy as np
import pytest

from maskrcnn_lib.evaluation.overlaps import encode
from maskrcnn_lib.evaluation.voc_eval import (
    average_precision,
    average_precision_07,
    evaluate_voc,
)

SIZE = 200


def content(objects, images=3, categories=1):
    """A data set of (image, category, box, difficult)."""
    annotations = [
        {"id": i, "image_id": image, "category_id": category, "bbox": list(box), "iscrowd": 0}
        | {"area": box[2] * box[3], "difficult": difficult}
        for i, (image, category, box, difficult) in enumerate(objects, start=1)
    ]
    return {
        "images": [{"id": i, "height": SIZE, "width": SIZE} for i in range(images)],
        "categories": [{"id": c, "name": f"c{c}"} for c in range(1, categories + 1)],
        "annotations": annotations,
    }


def result(image, box, score, category=1):
    return {"image_id": image, "category_id": category, "bbox": list(box), "score": score}


def test_areas_of_a_curve_computed_by_hand():
    # recall 1/5, 1/5, 2/5, 3/5, 3/5 at precision 1, 1/2, 2/3, 3/4, 3/5; two objects are not found
    hits = np.array([True, False, True, True, False])
    assert average_precision(hits, 5) == pytest.approx((1 + 3 / 4 + 3 / 4) / 5)
    # recalls 0, .1, .2 at 1; .3, .4, .5, .6 at 3/4; nothing from .7 on
    assert average_precision_07(hits, 5) == pytest.approx((3 * 1 + 4 * 3 / 4) / 11)


def test_a_recall_of_three_tenths_is_reached_by_three_of_ten():
    assert average_precision_07(np.ones(3, bool), 10) == pytest.approx(4 / 11)


@pytest.mark.parametrize("area", [average_precision, average_precision_07])
def test_no_detections_give_no_area(area):
    assert area(np.zeros(0, bool), 3) == 0


def test_a_second_detection_of_an_object_is_wrong():
    truth = content([(0, 1, (10, 10, 50, 50), 0), (1, 1, (10, 10, 50, 50), 0)])
    found = [result(0, (10, 10, 50, 50), s) for s in (0.9, 0.8)] + [result(1, (9, 10, 50, 50), 0.7)]
    assert evaluate_voc(truth, found).metrics["AP50"] == pytest.approx((1 + 2 / 3) / 2)
    # the rest of the curve has the precision 2 / 3: recalls 0 to 0.5 at 1, 0.6 to 1 at 2 / 3
    assert evaluate_voc(truth, found).metrics["AP50_07"] == pytest.approx((6 + 5 * 2 / 3) / 11)


def test_a_detection_counts_for_the_object_that_it_overlaps_most_only():
    truth = content([(0, 1, (0, 0, 100, 100), 0), (0, 1, (30, 0, 100, 100), 0)])
    # both are nearest to the first; the second one's IoU with the other object is 80 / 120
    found = [result(0, (0, 0, 100, 100), 0.9), result(0, (10, 0, 100, 100), 0.8)]
    assert evaluate_voc(truth, found).metrics["AP50"] == 0.5


def test_the_threshold_itself_is_enough():
    truth = content([(0, 1, (0, 0, 10, 20), 0)])
    assert evaluate_voc(truth, [result(0, (0, 0, 10, 10), 0.9)]).metrics["AP50"] == 1.0


def test_difficult_objects_neither_count_nor_make_detections_wrong():
    objects = [(0, 1, (10, 10, 50, 50), 0), (0, 1, (100, 100, 50, 50), 1)]
    found = [result(0, (100, 100, 50, 50), s) for s in (0.9, 0.8)] + [result(0, objects[0][2], 0.5)]
    assert evaluate_voc(content(objects), found).metrics["AP50"] == 1.0
    # were it not difficult, the first would be right and the second wrong
    easy = content([(*entry[:3], 0) for entry in objects])
    assert evaluate_voc(easy, found).metrics["AP50"] == pytest.approx((1 + 2 / 3) / 2)


def test_classes_without_countable_objects_are_left_out_of_the_mean():
    objects = [(0, 1, (10, 10, 50, 50), 0), (0, 2, (100, 100, 50, 50), 1)]
    scores = evaluate_voc(content(objects, categories=3), [result(0, (10, 10, 50, 50), 0.9)])
    assert scores.metrics["AP50"] == 1.0
    assert scores.per_class == {"c1": 1.0, "c2": -1.0, "c3": -1.0}
    assert set(evaluate_voc(content([]), []).metrics.values()) == {-1.0}


def test_results_that_cannot_be_scored_are_named():
    truth = content([(0, 1, (10, 10, 50, 50), 0)])
    good = result(0, (10, 10, 50, 50), 0.9)
    with pytest.raises(ValueError, match="result 1 is of image 7"):
        evaluate_voc(truth, [good, {**good, "image_id": 7}])
    with pytest.raises(ValueError, match="result 0 lacks segmentation"):
        evaluate_voc(truth, [good], "segm")


def random_case(seed, images=40, categories=3, per_image=4):
    """Objects that may overlap, and detections near and far, some with equal scores."""
    rng = np.random.default_rng(seed)
    objects, found = [], []
    for image in range(images):
        for _ in range(rng.integers(0, per_image + 1)):
            box = np.concatenate([rng.uniform(0, 120, 2), rng.uniform(10, 70, 2)])
            category = int(rng.integers(1, categories + 1))
            objects.append((image, category, box.tolist(), int(rng.random() < 0.2)))
            for _ in range(rng.integers(0, 4)):
                near = box + rng.normal(0, 6, 4)
                near[2:] = near[2:].clip(1)
                found.append(result(image, near.tolist(), round(rng.random(), 2), category))
    return content(objects, images, categories), found


def by_loops(truth, found, category, threshold, *, eleven):
    """The development kit's procedure, one detection after the other."""
    gt = [a for a in truth["annotations"] if a["category_id"] == category]
    taken, outcome = set(), []
    mine = [r for r in found if r["category_id"] == category]
    for r in sorted(mine, key=lambda r: -r["score"]):
        best, best_object = -1.0, None
        for a in gt:
            if a["image_id"] != r["image_id"]:
                continue
            (x, y, w, h), (u, v, s, t) = r["bbox"], a["bbox"]
            shared = max(0, min(x + w, u + s) - max(x, u)) * max(0, min(y + h, v + t) - max(y, v))
            iou = shared / (w * h + s * t - shared)
            if iou > best:
                best, best_object = iou, a
        if best >= threshold and best_object["difficult"]:
            continue
        right = best >= threshold and best_object["id"] not in taken
        if right:
            taken.add(best_object["id"])
        outcome.append(right)
    positives = sum(not a["difficult"] for a in gt)
    recall, precision, count = [0.0], [0.0], 0
    for i, right in enumerate(outcome, start=1):
        count += right
        recall.append(count / positives)
        precision.append(count / i)
    if eleven:
        levels = [
            max([p for p, r in zip(precision, recall, strict=True) if 10 * r >= k - 1e-9] or [0])
            for k in range(11)
        ]
        return sum(levels) / 11
    area = 0.0
    for i in range(1, len(recall)):
        area += (recall[i] - recall[i - 1]) * max(precision[i:])
    return area


@pytest.mark.parametrize("seed", range(4))
def test_random_data_score_as_by_plain_loops(seed):
    truth, found = random_case(seed)
    scores = evaluate_voc(truth, found)
    for suffix, eleven in (("", False), ("_07", True)):
        for name, threshold in (("AP50", 0.5), ("AP75", 0.75)):
            expected = np.mean(
                [by_loops(truth, found, c, threshold, eleven=eleven) for c in (1, 2, 3)]
            )
            # sums of at most some hundred terms in double precision
            assert scores.metrics[name + suffix] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_eleven_recalls_are_those_of_pycocotools_where_the_rules_agree(seed):
    """With one object per image and class, and one detection of it, COCO matches as VOC does.

    COCO's curve has 101 recalls, every tenth of which is one of VOC's; what has too large an area
    is ignored by COCO as difficult objects are by VOC.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(seed)
    objects, found = [], []
    for image in range(60):
        box = np.concatenate([rng.uniform(0, 120, 2), rng.uniform(10, 70, 2)])
        objects.append((image, 1, box.tolist(), int(rng.random() < 0.2)))
        near = box + rng.normal(0, 5, 4)
        found.append(result(image, near.clip(1).tolist(), float(rng.random())))
    # a prime number of objects: recalls never fall on tenths, where floats decide
    keep = [i for i, entry in enumerate(objects) if not entry[3]][:41]
    objects = [entry for i, entry in enumerate(objects) if entry[3] or i in keep]
    truth = content(objects, images=60)
    scores = evaluate_voc(truth, found)
    coco = COCO()
    coco.dataset = {
        **truth,
        "annotations": [
            {**a, "area": 1e12 if a["difficult"] else a["area"]} for a in truth["annotations"]
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    curve = evaluation.eval["precision"][:, ::10, 0, 0, -1]  # (10 IoUs, 11 recalls)
    assert scores.metrics["AP50_07"] == pytest.approx(curve[0].mean(), abs=1e-9)
    assert scores.metrics["AP_07"] == pytest.approx(curve.mean(), abs=1e-9)


def test_masks_are_compared_by_their_pixels():
    def mask(x1, x2):
        bitmap = np.zeros((SIZE, SIZE), bool)
        bitmap[0:10, x1:x2] = True
        return encode(bitmap)

    truth = content([(0, 1, (0, 0, 200, 200), 0)])
    truth["annotations"][0]["segmentation"] = mask(0, 10)
    found = {**result(0, (0, 0, 200, 200), 0.9), "segmentation": mask(0, 6)}
    scores = evaluate_voc(truth, [found], "segm")
    assert (scores.kind, scores.metrics["AP50"], scores.metrics["AP75"]) == ("segm", 1.0, 0.0)
    # IoU 0.6 is enough for three of the ten thresholds
    assert scores.metrics["AP"] == pytest.approx(0.3)
