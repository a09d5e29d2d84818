"""The evaluator gives COCO's official numbers, whichever package computes them."""

import json
import re

import numpy as np
import pytest

from maskrcnn_lib.evaluation.coco_eval import (
    METRICS,
    available_backends,
    evaluate_coco,
)

FAST_BACKENDS = ("hotcoco", "faster-coco-eval")


@pytest.fixture(scope="module")
def conformance(test_data):
    folder = test_data / "coco_conformance"
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    results = {
        kind: json.loads((folder / f"instances_val2014_fake{kind}100_results.json").read_text())
        for kind in ("bbox", "segm")
    }
    table = (folder / "val2014_fake_eval_res.txt").read_text()
    official = {}
    for section in re.split(r"type=", table)[1:]:
        official[section.split()[0]] = [float(x) for x in re.findall(r"\] = ([\d.]+)", section)]
    return truth, results, official


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("backend", ["pycocotools", "maskrcnn_lib", *FAST_BACKENDS])
def test_official_numbers_of_the_coco_api_are_reproduced(conformance, kind, backend):
    if backend in FAST_BACKENDS:
        pytest.importorskip(backend.replace("-", "_"), reason=f"{backend} is not installed")
    truth, results, official = conformance
    scores = evaluate_coco(truth, results[kind], kind, backend=backend)
    ours = [scores.metrics[name] for name in METRICS]
    # the official table has three decimals
    np.testing.assert_allclose(ours, official[kind], rtol=0, atol=0.00051)
    assert scores.backend == backend


def random_dataset(seed, images=12, categories=4):
    """A data set with crowds, empty images and classes, and score ties, and detections for it."""
    rng = np.random.default_rng(seed)
    truth = {
        "images": [{"id": 7 * i + 3, "height": 200, "width": 300} for i in range(images)],
        "categories": [{"id": 5 * i + 2, "name": f"c{i}"} for i in range(categories)],
        "annotations": [],
    }
    results = []
    for image in truth["images"][:-2]:
        for _ in range(rng.integers(0, 8)):
            x, y = rng.uniform(0, 200), rng.uniform(0, 120)
            w, h = rng.uniform(1, 100), rng.uniform(1, 80)
            category = 5 * int(rng.integers(0, categories - 1)) + 2
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": image["id"],
                    "category_id": category,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": int(rng.random() < 0.1),
                }
            )
            for _ in range(rng.integers(0, 4)):
                noise = rng.normal(0, 4, 4)
                results.append(
                    {
                        "image_id": image["id"],
                        "category_id": category,
                        "bbox": [x + noise[0], y + noise[1], w + abs(noise[2]), h + abs(noise[3])],
                        "score": float(np.round(rng.random(), 1)),
                    }
                )
    return truth, results


@pytest.mark.parametrize("backend", FAST_BACKENDS)
@pytest.mark.parametrize("seed", range(8))
def test_fast_backends_agree_with_pycocotools(backend, seed):
    pytest.importorskip(backend.replace("-", "_"), reason=f"{backend} is not installed")
    truth, results = random_dataset(seed)
    fast = evaluate_coco(truth, results, "bbox", backend=backend)
    reference = evaluate_coco(truth, results, "bbox", backend="pycocotools")
    # the same sums in double precision, in possibly different order
    for name in METRICS:
        assert fast.metrics[name] == pytest.approx(reference.metrics[name], abs=1e-9)
    assert fast.per_class == pytest.approx(reference.per_class, abs=1e-9)


@pytest.mark.parametrize("backend", available_backends())
def test_curves_are_those_of_pycocotools(backend):
    truth, results = random_dataset(1)
    curves = evaluate_coco(truth, results, "bbox", backend=backend).curves
    reference = evaluate_coco(truth, results, "bbox", backend="pycocotools").curves
    assert curves.precision.shape == (10, 101, len(truth["categories"]), 4, 3)
    np.testing.assert_allclose(curves.precision, reference.precision, rtol=0, atol=1e-9)
    np.testing.assert_allclose(curves.recall, reference.recall, rtol=0, atol=1e-9)
    assert (reference.precision > 0).any()


@pytest.mark.parametrize("backend", available_backends())
def test_no_detections_score_zero(backend):
    truth, _ = random_dataset(0)
    scores = evaluate_coco(truth, [], "bbox", backend=backend)
    assert scores.metrics["AP"] == 0
    assert scores.per_class["c3"] == -1  # no object of this class


def test_ground_truth_as_detections_scores_one():
    truth, _ = random_dataset(1)
    results = [
        {**annotation, "score": 1.0}
        for annotation in truth["annotations"]
        if not annotation["iscrowd"]
    ]
    scores = evaluate_coco(truth, results, "bbox")
    assert scores.metrics["AP"] == pytest.approx(1.0)


def test_inputs_are_left_as_they_were():
    truth, results = random_dataset(2)
    before = json.dumps([truth, results])
    evaluate_coco(truth, results, "bbox")
    assert json.dumps([truth, results]) == before


def test_wrong_results_are_named():
    truth, results = random_dataset(3)
    with pytest.raises(ValueError, match="result 0 is of image 99999"):
        evaluate_coco(truth, [{**results[0], "image_id": 99999}], "bbox")
    with pytest.raises(ValueError, match="result 0 lacks segmentation"):
        evaluate_coco(truth, results, "segm")
    nan = float("nan")
    for backend in ("maskrcnn_lib", "pycocotools"):
        with pytest.raises(ValueError, match="score of result 1 is"):
            evaluate_coco(
                truth, [results[0], {**results[1], "score": nan}], "bbox", backend=backend
            )
    # pycocotools takes a box that is no number for a perfect match
    with pytest.raises(ValueError, match="bbox of result 1 is not finite"):
        evaluate_coco(truth, [results[0], {**results[1], "bbox": [nan, 1, 2, 3]}], "bbox")
    with pytest.raises(ValueError, match="nocoeval"):
        evaluate_coco(truth, results, "bbox", backend="nocoeval")


def test_results_of_unknown_categories_are_counted(caplog):
    truth, results = random_dataset(3)
    evaluate_coco(truth, [{**results[0], "category_id": 99}, *results[1:]], "bbox")
    assert f"1 of {len(results)} results are left out" in caplog.text
