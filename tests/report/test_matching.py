"""Which detection finds which object."""

import numpy as np
import pytest

from maskrcnn_lib.report.matching import match_images

from .scenes import content, random_scene, results

BOX = [10, 10, 40, 40]


def _match(objects, found, **options):
    (match,) = match_images(content(objects, **options), results(found), "bbox")
    return match


def test_the_surer_detection_chooses_first():
    near, exact = [12, 10, 40, 40], BOX
    match = _match([(1, 1, BOX)], [(1, 1, exact, 0.6), (1, 1, near, 0.9)])
    assert [entry["score"] for entry in match.found] == [0.9, 0.6]
    assert match.object_of.tolist() == [0, -1]


def test_each_chooses_the_object_that_it_overlaps_most_of_those_that_are_free():
    left, right = [10, 10, 40, 40], [20, 10, 40, 40]
    match = _match([(1, 1, left), (1, 1, right)], [(1, 1, right, 0.9), (1, 1, right, 0.8)])
    assert match.object_of.tolist() == [1, 0]  # the second gets what is left: overlap 0.6


def test_other_classes_do_not_find_an_object():
    match = _match([(1, 1, BOX)], [(1, 2, BOX, 0.9)])
    assert match.object_of.tolist() == [-1]
    assert match.overlaps.tolist() == [[1.0]] and match.same_class.tolist() == [[False]]


def test_detections_in_crowd_regions_of_their_class_are_ignored():
    crowd = (1, 1, [0, 0, 80, 80], {"iscrowd": 1})
    match = _match([crowd], [(1, 1, BOX, 0.9), (1, 2, BOX, 0.8), (1, 1, [60, 60, 40, 40], 0.7)])
    assert match.ignored.tolist() == [True, False, False]
    assert list(match.objects) == []


def test_an_object_of_less_overlap_than_half_is_not_found():
    box, half, less = [10, 10, 30, 30], [20, 10, 30, 30], [20.1, 10, 30, 30]
    assert _match([(1, 1, box)], [(1, 1, half, 0.9)]).object_of.tolist() == [0]
    assert _match([(1, 1, box)], [(1, 1, less, 0.9)]).object_of.tolist() == [-1]


def test_images_without_objects_or_detections_have_a_match_of_no_rows():
    scene = content([(1, 1, BOX), (2, 1, BOX)])
    first, second = match_images(scene, results([(1, 1, BOX, 0.5)]), "bbox")
    assert first.overlaps.shape == (1, 1) and second.overlaps.shape == (0, 1)
    assert second.is_found.tolist() == [False]


def test_results_of_unknown_images_are_refused_and_of_unknown_classes_left_out():
    scene = content([(1, 1, BOX)])
    with pytest.raises(ValueError, match="image 7"):
        list(match_images(scene, results([(7, 1, BOX, 0.5)]), "bbox"))
    (match,) = match_images(scene, results([(1, 9, BOX, 0.5)]), "bbox")
    assert len(match.found) == 0


@pytest.mark.parametrize("seed", range(5))
def test_what_is_found_is_what_pycocotools_says(seed):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    scene, found = random_scene(seed)
    truth = COCO()
    truth.dataset = scene
    truth.createIndex()
    judge = COCOeval(truth, truth.loadRes([dict(entry) for entry in found]), "bbox")
    judge.evaluate()
    expected = {}
    for entry in judge.evalImgs:  # category, then area, then image; the first area is all
        if entry is not None and entry["aRng"] == judge.params.areaRng[0]:
            ids = entry["gtMatches"][0] > 0
            for number, hit in zip(entry["gtIds"], ids, strict=True):
                expected[number] = bool(hit)
    ours = {}
    for match in match_images(scene, found, "bbox"):
        ids = [entry["id"] for entry in match.objects]
        ours.update(zip(ids, match.is_found.tolist(), strict=True))
    assert ours == expected
    assert 0 < np.mean(list(ours.values())) < 1
