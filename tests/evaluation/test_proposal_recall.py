"""Recall of proposals, against hand-computed cases and pycocotools."""

import contextlib
import io

import numpy as np
import pytest

from maskrcnn_lib.evaluation.proposal_recall import cover_objects, evaluate_box_proposals


def obj(box, area=None, iscrowd=0):
    return {"bbox": box, "area": box[2] * box[3] if area is None else area, "iscrowd": iscrowd}


def recall(boxes, objects, **options):
    return evaluate_box_proposals([cover_objects(boxes, objects, **options)]).metrics


def test_recall_of_one_object_is_the_share_of_thresholds_that_it_reaches():
    # IoU 72 / 100: 0.5, 0.55, 0.6, 0.65 and 0.7
    assert recall([[0, 0, 10, 7.2]], [obj([0, 0, 10, 10])])["AR@100"] == pytest.approx(0.5)
    assert recall([[0, 0, 10, 5]], [obj([0, 0, 10, 10])])["AR@100"] == pytest.approx(0.1)


def test_pairs_are_made_by_overlap_and_a_proposal_serves_one_object():
    # the proposal is nearest to the second object and cannot serve the first one too
    objects = [obj([0, 0, 10, 8]), obj([0, 0, 10, 10])]
    assert cover_objects([[0, 0, 10, 9.5]], objects)["AR@100"] == pytest.approx([0.95, 0.0])
    both = cover_objects([[0, 0, 10, 9.5], [0, 0, 10, 9.0]], objects)["AR@100"]
    # 0.95 is the best pair; what is left for the first object is 8 / 9
    assert both == pytest.approx([0.95, 8 / 9])


def test_only_the_best_proposals_are_looked_at():
    boxes = [[50, 50, 5, 5]] * 3 + [[0, 0, 10, 10]]
    metrics = recall(boxes, [obj([0, 0, 10, 10])], limits=(3, 4))
    assert metrics["AR@3"] == 0.0 and metrics["AR@4"] == pytest.approx(1.0)


def test_areas_are_those_of_the_masks_and_borders_belong_to_both_sides():
    objects = [obj([0, 0, 40, 40], area=32**2), obj([100, 100, 200, 200], area=96**2 + 1)]
    metrics = recall([[0, 0, 40, 40]], objects)
    assert [metrics[f"AR{name}@1000"] for name in ("", "s", "m", "l")] == [0.5, 1.0, 1.0, 0.0]


def test_crowd_regions_do_not_count_and_missed_images_do():
    crowd = obj([0, 0, 10, 10], iscrowd=1)
    assert recall([], [crowd])["AR@100"] == -1.0
    coverages = [cover_objects([], [obj([0, 0, 10, 10])])]
    coverages.append(cover_objects([[0, 0, 10, 10]], [obj([0, 0, 10, 10]), crowd]))
    metrics = evaluate_box_proposals(coverages).metrics
    assert metrics["AR@100"] == pytest.approx(0.5) and metrics["ARs@100"] == pytest.approx(0.5)
    assert metrics["ARl@100"] == -1.0


def test_without_images_there_are_no_numbers():
    assert evaluate_box_proposals([]).metrics == {}


@pytest.mark.parametrize("seed", range(3))
def test_recall_is_that_of_pycocotools_where_objects_stand_apart(seed):
    """Where every proposal touches one object at most, COCO's matching pairs the same ones."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(seed)
    truth = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    results, coverages = [], []
    for image in range(12):
        truth["images"].append({"id": image, "height": 2000, "width": 2000})
        objects, boxes = [], []
        for cell in range(9):  # of 600 pixels
            size = rng.uniform(10, 150, 2)
            box = np.array([*divmod(cell, 3)]) * 600.0 + 100
            objects.append(obj([*box, *size]))
            # none, or one, so that its rank decides and not the matching
            if rng.random() < 0.8:
                boxes.append([*(box + rng.normal(0, 6, 2)), *(size + rng.uniform(0, 10, 2))])
        boxes += [[1900 - i / 10, 1900, 5, 5] for i in range(150)]
        boxes = [boxes[i] for i in rng.permutation(len(boxes))]
        coverages.append(cover_objects(boxes, objects))
        for entry in objects:
            number = len(truth["annotations"]) + 1
            truth["annotations"].append(
                {**entry, "id": number, "image_id": image, "category_id": 1}
            )
        for rank, box in enumerate(boxes):
            score = 1.0 - rank / 1000
            results.append({"image_id": image, "category_id": 1, "bbox": box, "score": score})
    ours = evaluate_box_proposals(coverages).metrics
    coco = COCO()
    coco.dataset = truth
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.params.maxDets = [1, 100, 1000]
        evaluation.evaluate()
        evaluation.accumulate()
    theirs = evaluation.eval["recall"].mean(axis=0)[0]  # (4 areas, 3 limits)
    for row, area in enumerate(("", "s", "m", "l")):
        for column, limit in ((1, 100), (2, 1000)):
            # counts of some hundred objects in double precision
            assert ours[f"AR{area}@{limit}"] == pytest.approx(theirs[row, column], abs=1e-9)
    assert 0 < ours["AR@100"] < ours["AR@1000"] < 1
