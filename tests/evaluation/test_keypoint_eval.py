"""Keypoint AP on COCO's own people, and on skeletons that COCO does not know."""

import json
import logging

import numpy as np
import pytest
import torch

from maskrcnn_lib.data.datasets import COCODataset
from maskrcnn_lib.evaluation.coco_eval import KEYPOINT_METRICS, available_backends, evaluate_coco
from maskrcnn_lib.evaluation.ground_truth import coco_content
from maskrcnn_lib.evaluation.keypoint_truth import PERSON_SIGMAS, check_sigmas
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.keypoint import Keypoints


@pytest.fixture(scope="module")
def people(test_data):
    folder = test_data / "coco_mini"
    return COCODataset(folder / "annotations/person_keypoints_val2017.json", folder / "val2017")


def as_detections(dataset, noise=0.0):
    """The labelled people as a model would give them, with some pixels of error."""
    rng = np.random.default_rng(0)
    results = []
    for index in range(len(dataset)):
        target = dataset.target(index)
        points = target.get_field("keypoints").keypoints
        target = target[(points[..., 2] > 0).any(dim=1)]
        found = BoxList(target.bbox, target.size)
        points = target.get_field("keypoints").keypoints.clone()
        points[..., :2] += torch.from_numpy(rng.normal(0, noise, points[..., :2].shape))
        found.add_field("keypoints", Keypoints(points, target.size))
        found.add_field("labels", target.get_field("labels"))
        found.add_field("scores", torch.from_numpy(rng.random(len(target))))
        results += found.to_coco(image_id=dataset.ids[index], category_ids=[-1, 1])
    return [{key: value for key, value in r.items() if key != "bbox"} for r in results]


@pytest.mark.parametrize("backend", available_backends("keypoints"))
def test_ground_truth_as_detections_scores_one(people, backend):
    scores = evaluate_coco(people.content, as_detections(people), "keypoints", backend=backend)
    assert tuple(scores.metrics) == KEYPOINT_METRICS
    assert scores.metrics["AP"] == pytest.approx(1.0)
    assert scores.per_class == pytest.approx({"person": 1.0})


def test_pycocotools_itself_gives_the_same_numbers(people, test_data, tmp_path):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    results = as_detections(people, noise=5.0)
    (tmp_path / "keypoints.json").write_text(json.dumps(results))
    path = test_data / "coco_mini/annotations/person_keypoints_val2017.json"
    coco = COCO(path)
    evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "keypoints.json")), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    for backend in available_backends("keypoints"):
        scores = evaluate_coco(people.content, results, "keypoints", backend=backend)
        # the same sums in double precision, in possibly different order
        assert list(scores.metrics.values()) == pytest.approx(evaluation.stats, abs=1e-9)
    assert 0.2 < scores.metrics["AP"] < 0.9


def test_known_sigmas_are_those_of_pycocotools():
    from pycocotools.cocoeval import Params

    assert pytest.approx(Params("keypoints").kpt_oks_sigmas) == PERSON_SIGMAS


class Hands:
    """A data set of one's own: three points per object, in one of its two images."""

    categories = {5: "hand"}  # noqa: RUF012

    def __len__(self):
        return 2

    def target(self, index):
        boxes = torch.tensor([[10.0, 10.0, 50.0, 50.0], [40.0, 40.0, 80.0, 80.0]])[index:]
        points = torch.tensor(
            [[[12.0, 12, 2], [30, 30, 1], [48, 48, 2]], [[0, 0, 0], [50, 60, 2], [0, 0, 0]]]
        )[index:]
        target = BoxList(boxes, (100, 100))
        target.add_field("labels", torch.ones(len(boxes), dtype=torch.int64))
        target.add_field("keypoints", Keypoints(points, (100, 100)))
        return target


def _found(content, shift=0.0):
    moved = []
    for entry in content["annotations"]:
        points = np.reshape(entry["keypoints"], (-1, 3)) + np.array([shift, 0, 0])
        moved.append({**entry, "keypoints": points.ravel().tolist(), "score": 0.5})
    return moved


@pytest.mark.parametrize("backend", available_backends("keypoints"))
def test_any_number_of_keypoints_is_scored_with_given_sigmas(backend):
    content = coco_content(Hands())
    assert [a["num_keypoints"] for a in content["annotations"]] == [3, 1, 1]
    exact = evaluate_coco(
        content, _found(content), "keypoints", backend=backend, sigmas=(0.05, 0.1, 0.1)
    )
    assert exact.metrics["AP"] == pytest.approx(1.0)
    # similarity exp(-d^2 / (2 area (2 sigma)^2)) of points 10 pixels off, in an area of 1600, with
    # sigma 0.1 is 0.458, with sigma 0.2 it is 0.823: found at 7 of the 10 thresholds
    for sigma, expected in ((0.1, 0.0), (0.2, 0.7)):
        scores = evaluate_coco(
            content, _found(content, 10.0), "keypoints", backend=backend, sigmas=(sigma,) * 3
        )
        assert scores.metrics["AP"] == pytest.approx(expected)


def test_unknown_skeletons_get_one_sigma_and_a_warning(caplog):
    content = coco_content(Hands())
    with caplog.at_level(logging.WARNING):
        scores = evaluate_coco(content, _found(content), "keypoints")
    assert scores.metrics["AP"] == pytest.approx(1.0)
    assert "TEST.KEYPOINT_OKS_SIGMAS" in caplog.text


@pytest.mark.parametrize("sigmas", [(0.1, 0.1), (0.1, 0.0, 0.1)])
def test_sigmas_that_do_not_fit_are_an_error(sigmas):
    with pytest.raises(ValueError, match="each of 3 keypoints"):
        check_sigmas(sigmas, 3)


@pytest.mark.parametrize("backend", available_backends("keypoints"))
def test_objects_without_keypoints_may_lack_the_keys(backend):
    content = coco_content(Hands())
    found = _found(content)
    for entry in content["annotations"][1:]:
        del entry["keypoints"], entry["num_keypoints"]
    scores = evaluate_coco(content, found[:1], "keypoints", backend=backend, sigmas=(0.1,) * 3)
    assert scores.metrics["AP"] == pytest.approx(1.0)
