"""Our scoring gives pycocotools' numbers, bit for bit."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coder
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskrcnn_lib.evaluation.average_precision import Rules, precision_curves, summarize
from maskrcnn_lib.evaluation.coco_eval import evaluate_coco
from maskrcnn_lib.layers._library import ops_available
from maskrcnn_lib.structures.flat_polygons import FlatPolygons

pytestmark = pytest.mark.skipif(not ops_available(), reason="the compiled operators are not built")
EXACT = {"rtol": 0, "atol": 1e-12}
SIZE = (60, 80)


def reference(truth, results, kind, rules=None):
    """pycocotools' precision, recall and, by COCO's rules, twelve numbers."""
    truth, results = json.loads(json.dumps([truth, results]))
    with contextlib.redirect_stdout(io.StringIO()):
        coco, found = COCO(), COCO()
        coco.dataset = truth
        coco.createIndex()
        found.dataset = {**truth, "annotations": []}
        found.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(results) if results else found, kind)
        if rules is not None:
            evaluator.params.iouThrs = np.array(rules.thresholds)
            evaluator.params.recThrs = np.array(rules.recalls)
            evaluator.params.maxDets = list(rules.most)
            evaluator.params.areaRng = [list(area) for area in rules.areas]
            evaluator.params.areaRngLbl = [f"area {i}" for i in range(len(rules.areas))]
        evaluator.evaluate()
        evaluator.accumulate()
        if rules is None:
            evaluator.summarize()
    return evaluator.eval["precision"], evaluator.eval["recall"], evaluator.stats


def assert_same(truth, results, kind, rules=None):
    precision, recall, stats = reference(truth, results, kind, rules)
    curves = precision_curves(truth, results, kind, rules=rules)
    np.testing.assert_allclose(curves.precision, precision, **EXACT)
    np.testing.assert_allclose(curves.recall, recall, **EXACT)
    if rules is None:
        np.testing.assert_allclose(summarize(curves), stats, **EXACT)


def text(bitmap):
    encoded = coder.encode(np.asfortranarray(bitmap.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")}


def draw_box(box):
    """Run lengths of the pixels of a box."""
    bitmap = np.zeros(SIZE, dtype=bool)
    x, y, w, h = (round(v) for v in box)
    bitmap[max(y, 0) : y + h, max(x, 0) : x + w] = True
    return text(bitmap)


# whole coordinates and few scores make ties and equal overlaps frequent
boxes = st.tuples(
    st.integers(0, 60), st.integers(0, 40), st.integers(1, 40), st.integers(1, 40)
).map(lambda box: [float(v) for v in box])
placed = {"image_id": st.integers(1, 4), "category_id": st.sampled_from([3, 5, 9])}
objects = st.lists(
    st.fixed_dictionaries({**placed, "bbox": boxes, "iscrowd": st.sampled_from([0, 0, 0, 1])}),
    max_size=12,
)
detections = st.lists(
    st.fixed_dictionaries(
        {**placed, "bbox": boxes, "score": st.sampled_from([0.1, 0.5, 0.5, 0.9])}
    ),
    max_size=25,
)
rules = st.builds(
    Rules,
    thresholds=st.sampled_from([(0.5, 0.75), (0.0, 0.3, 1.0), Rules().thresholds]),
    areas=st.sampled_from([Rules().areas, ((0, 300), (300, 300), (100, 1e9))]),
    most=st.sampled_from([(1, 10, 100), (1,), (2, 3)]),
)


def small_dataset(found_objects):
    """Image 4 and category 9 may stay empty."""
    annotations = []
    for i, entry in enumerate(found_objects):
        x, y, w, h = entry["bbox"]
        outline = [x, y, x + w, y, x + w, y + h, x + w / 3, y + h / 2]
        segmentation = draw_box(entry["bbox"]) if entry["iscrowd"] else [outline]
        annotations.append({**entry, "id": i + 1, "area": w * h, "segmentation": segmentation})
    return {
        "images": [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in (4, 2, 1, 3)],
        "categories": [{"id": i, "name": f"class {i}"} for i in (9, 3, 5)],
        "annotations": annotations,
    }


@settings(max_examples=150, deadline=None)
@given(objects, detections, rules)
def test_boxes_score_as_in_pycocotools(found_objects, found, some_rules):
    assert_same(small_dataset(found_objects), found, "bbox", some_rules)


@settings(max_examples=100, deadline=None)
@given(objects, detections, rules)
def test_masks_score_as_in_pycocotools(found_objects, found, some_rules):
    masked = [
        {**{k: v for k, v in entry.items() if k != "bbox"}, "segmentation": draw_box(entry["bbox"])}
        for entry in found
    ]
    assert_same(small_dataset(found_objects), masked, "segm", some_rules)


@pytest.mark.data
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_official_example_scores_as_in_pycocotools(test_data, kind):
    folder = test_data / "coco_conformance"
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    results = json.loads((folder / f"instances_val2014_fake{kind}100_results.json").read_text())
    assert_same(truth, results, kind)


@pytest.mark.data
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_perturbed_photos_score_as_in_pycocotools(test_data, kind):
    folder = test_data / "coco_mini"
    path = next(folder.rglob("instances_val2017.json"))
    truth = json.loads(path.read_text())
    truth["images"] = truth["images"][:40]
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in sizes]
    rng = np.random.default_rng(0)
    results = []
    for entry in truth["annotations"]:
        for shift in rng.integers(-6, 7, (2, 2)):
            result = {"image_id": entry["image_id"], "category_id": entry["category_id"]}
            result["score"] = round(float(rng.random()), 2)
            if kind == "bbox":
                x, y, w, h = entry["bbox"]
                result["bbox"] = [x + float(shift[0]), y + float(shift[1]), w, h]
            else:
                runs = coder.frPyObjects(entry["segmentation"], *sizes[entry["image_id"]])
                runs = coder.merge(runs) if isinstance(runs, list) else runs
                result["segmentation"] = text(np.roll(coder.decode(runs), shift, (0, 1)))
            results.append(result)
    assert_same(truth, results, kind)


def test_polygons_become_the_run_lengths_of_pycocotools():
    rng = np.random.default_rng(0)
    for size in ((60, 80), (80, 60), (1, 50), (33, 33)):
        height, width = size
        instances = []
        for i in range(300):
            centre = rng.uniform(-0.3, 1.3, 2) * [width, height]
            spread = rng.choice([0.3, 3, 20, 200])
            polygons = [
                centre + spread * rng.normal(size=(rng.integers(3, 9), 2))
                for _ in range(rng.integers(1, 4))
            ]
            instances.append([p.round() if i % 3 == 0 else p for p in polygons])
        points = np.concatenate([p for polygons in instances for p in polygons])
        flat = FlatPolygons.from_counts(
            torch.from_numpy(points), [[len(p) for p in polygons] for polygons in instances]
        )
        sizes = torch.tensor([size] * len(instances))
        runs, offsets = torch.ops.maskrcnn.polygons_to_rle(*flat, sizes)
        characters, ends = torch.ops.maskrcnn.compress_rle(runs, offsets)
        for i, polygons in enumerate(instances):
            outlines = [p.ravel().tolist() for p in polygons]
            expected = coder.merge(coder.frPyObjects(outlines, height, width))
            ours = characters[ends[i] : ends[i + 1]].numpy().tobytes()
            np.testing.assert_array_equal(
                coder.decode({"size": list(size), "counts": ours}), coder.decode(expected)
            )


def example():
    truth = small_dataset(
        [
            {"image_id": 1, "category_id": 3, "bbox": [5.0, 5.0, 20.0, 20.0], "iscrowd": 0},
            {"image_id": 2, "category_id": 5, "bbox": [5.0, 5.0, 20.0, 20.0], "iscrowd": 1},
        ]
    )
    found = {"image_id": 1, "category_id": 3, "score": 0.9}
    return truth, [{**found, "segmentation": draw_box([5, 5, 20, 20])}]


def test_all_forms_of_run_lengths_mean_the_same():
    truth, (result,) = example()
    size, counts = result["segmentation"]["size"], result["segmentation"]["counts"]
    bitmap = coder.decode(result["segmentation"])
    changes = np.flatnonzero(np.diff(bitmap.ravel(order="F").astype(np.int8), prepend=0))
    runs = np.diff(changes, prepend=0, append=bitmap.size).tolist()
    scores = [
        evaluate_coco(
            truth, [{**result, "segmentation": {"size": size, "counts": form}}], "segm"
        ).metrics
        for form in (counts, counts.encode(), runs)
    ]
    assert scores[0] == scores[1] == scores[2]
    assert scores[0]["AP50"] > 0.99


def test_masks_of_other_images_are_refused():
    truth, (result,) = example()
    mask = result["segmentation"]
    wrong = {**result, "segmentation": {**mask, "size": [80, 60]}}
    with pytest.raises(ValueError, match=r"mask of result 1 is \[80, 60\], its image \[60, 80\]"):
        evaluate_coco(truth, [result, wrong], "segm", backend="maskrcnn_lib")
    for counts in ("", mask["counts"][:-1], mask["counts"] + "5", "~~", "0" * 40):
        broken = {**result, "segmentation": {**mask, "counts": counts}}
        with pytest.raises(ValueError, match="RLE"):
            evaluate_coco(truth, [result, broken], "segm", backend="maskrcnn_lib")


@pytest.mark.parametrize("key", ["size", "counts"])
def test_incomplete_masks_are_named(key):
    truth, (result,) = example()
    mask = {k: value for k, value in result["segmentation"].items() if k != key}
    with pytest.raises(ValueError, match=f"mask of result 1 lacks {key}"):
        evaluate_coco(truth, [result, {**result, "segmentation": mask}], "segm")


def test_an_x_without_its_y_moves_no_other_point():
    truth, (result,) = example()
    square = [5.0, 5.0, 25.0, 5.0, 25.0, 25.0, 5.0, 25.0]
    truth["annotations"][0]["segmentation"] = [[40.0, 40.0, 45.0, 40.0, 45.0, 45.0, 40.0], square]
    truth["annotations"][1] |= {"segmentation": [[*square, 7.0]], "category_id": 3, "iscrowd": 0}
    assert_same(truth, [result, {**result, "image_id": 2}], "segm")


def test_incomplete_annotations_are_named():
    truth, results = example()
    del truth["annotations"][1]["area"]
    with pytest.raises(ValueError, match="annotation 1 lacks area"):
        evaluate_coco(truth, results, "segm", backend="maskrcnn_lib")


def test_objects_without_a_mask_count_as_not_found(caplog):
    truth, results = example()
    whole = evaluate_coco(truth, results, "segm", backend="maskrcnn_lib").metrics
    del truth["annotations"][0]["segmentation"]
    lacking = evaluate_coco(truth, results, "segm", backend="maskrcnn_lib").metrics
    assert whole["AR1"] > 0 and lacking["AR1"] == 0
    assert "1 of 2 objects of the data set have no mask" in caplog.text


def test_a_box_needs_four_numbers():
    truth, _ = example()
    result = {"image_id": 1, "category_id": 3, "score": 0.5, "bbox": [1, 2, 3]}
    with pytest.raises(ValueError, match="bbox of result 0"):
        evaluate_coco(truth, [result], "bbox", backend="maskrcnn_lib")


def test_an_object_with_id_zero_can_be_found():
    truth, _ = example()
    truth["annotations"][0]["id"] = 0
    result = {"image_id": 1, "category_id": 3, "score": 0.5, "bbox": [5, 5, 20, 20]}
    assert evaluate_coco(truth, [result], "bbox", backend="maskrcnn_lib").metrics["AP"] > 0.99
    # pycocotools takes this id for "no object"
    assert evaluate_coco(truth, [result], "bbox", backend="pycocotools").metrics["AP"] == 0


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_scores_do_not_depend_on_the_number_of_threads(kind):
    rng = np.random.default_rng(0)

    def entries(count):
        corners = rng.integers(0, 40, (count, 2))
        extents = rng.integers(3, 20, (count, 2))
        for box in np.concatenate([corners, extents], axis=1).astype(float).tolist():
            place = {"image_id": int(rng.integers(1, 5)), "category_id": int(rng.choice([3, 5]))}
            yield {**place, "bbox": box, "iscrowd": 0}

    truth = small_dataset(list(entries(300)))
    results = [
        {**entry, "score": float(rng.random()), "segmentation": draw_box(entry["bbox"])}
        for entry in entries(400)
    ]
    threads = torch.get_num_threads()
    curves = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            curves.append(precision_curves(truth, results, kind))
    finally:
        torch.set_num_threads(threads)
    for one, many in zip(*curves, strict=True):
        np.testing.assert_array_equal(one, many)
