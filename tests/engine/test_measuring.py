"""Evaluations that ranks share give what one process gives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from maskrcnn_lib.engine.measuring import measure_dataset
from maskrcnn_lib.engine.testing import batches_of, run_on_dataset
from maskrcnn_lib.structures.bounding_box import BoxList

SCRIPT = Path(__file__).with_name("shared_evaluation.py")


FILES = {
    "coco": ("bbox.json", "segm.json", "keypoints.json", "coco_results.json", "per_class.csv"),
    "voc": ("bbox.json", "segm.json", "keypoints.json", "coco_results.json", "per_class.csv"),
    "cityscapes": ("segm.json", "coco_results.json", "per_class.csv"),
    "proposals": ("coco_results.json",),
    "loader": ("bbox.json", "segm.json", "coco_results.json", "per_class.csv"),
}


@pytest.fixture(scope="module")
def evaluations(shared, tmp_path_factory):
    """Folders and numbers of all cases, of one process and of two ranks."""
    alone, together = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("together")
    expected = shared.measure(alone)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    processes = [
        subprocess.Popen([sys.executable, SCRIPT, together, str(r)], env=environment)
        for r in range(2)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    first, second = (json.loads((together / f"rank{r}.json").read_text()) for r in range(2))
    return alone, expected, together, first, second


@pytest.mark.parametrize("case", FILES)
def test_two_ranks_of_uneven_shares_find_what_one_finds(evaluations, case):
    alone, expected, together, first, second = evaluations
    assert second[case] is None
    assert first[case] == expected[case]
    for name in FILES[case]:
        assert (together / case / name).read_text() == (alone / case / name).read_text(), name


def test_results_are_in_the_order_of_the_images(evaluations):
    content = json.loads((evaluations[0] / "coco" / "bbox.json").read_text())
    assert [result["image_id"] for result in content] == [1, 2, 2, 4, 5, 5]
    assert all(set(r) == {"image_id", "category_id", "bbox", "score"} for r in content)
    points = json.loads((evaluations[0] / "coco" / "keypoints.json").read_text())
    assert {len(result["keypoints"]) for result in points} == {51}
    assert "bbox" not in points[0] and "segmentation" not in points[0]


def test_every_data_set_is_scored_by_its_own_rules(evaluations):
    names = {case: set(numbers) for case, numbers in evaluations[1].items()}
    assert {"val/bbox/AP", "val/bbox/AR100", "val/keypoints/AP"} < names["coco"]
    assert {"val/bbox/AP50", "val/bbox/AP50_07", "val/segm/AP50_07"} < names["voc"]
    assert "val/bbox/AR100" not in names["voc"]
    assert {name for name in names["cityscapes"] if "segm" in name} == {
        "val/segm/AP",
        "val/segm/AP50",
    }
    assert {"val/box_proposal/AR@100", "val/box_proposal/ARs@1000"} < names["proposals"]
    assert all(max(numbers.values()) > 0 for numbers in evaluations[1].values())


def test_a_loader_gives_the_scores_of_the_images_themselves(evaluations):
    numbers = evaluations[1]
    expected = {k: v for k, v in numbers["coco"].items() if "keypoints" not in k}
    assert numbers["loader"] == pytest.approx(expected)


def test_proposals_are_measured_against_their_objects_by_hand(shared):
    class OneObject(shared.FakeDataset):
        def __len__(self):
            return 2

    class Proposer(shared.FakeProposer):
        def __call__(self, images):
            # the worse one is listed first, and does not touch the object
            found = BoxList(torch.tensor([[15.0, 0, 19, 2], [2, 3, 12, 9]]), (20, 16))
            found.add_field("objectness", torch.tensor([0.1, 0.9]))
            return [found]

    results = run_on_dataset(Proposer(), OneObject(), (), progress=False)
    # the first object ends at y = 9, the second one at 9.5: IoU 60 / 65
    assert results.by_kind == {}
    assert [c["AR@100"] for c in results.coverages] == [[1.0], [pytest.approx(60 / 65)]]
    assert results.coverages[0]["ARl@100"] == []


def test_kinds_without_truth_are_left_out_with_a_warning(shared, caplog):
    class OnlyBoxes(shared.FakeDataset):
        def __getitem__(self, index):
            image, target, index = super().__getitem__(index)
            return image, target.copy_with_fields(["labels"]), index

    scores, _ = measure_dataset(shared.FakeDetector(), "val", OnlyBoxes(), progress=False)
    assert set(scores) == {"bbox"}
    assert "gives segm" in caplog.text and "gives keypoints" in caplog.text


def test_a_detector_with_masks_that_finds_nothing_has_a_mask_score(shared):
    detector = shared.FakeDetector()
    detector._find = lambda number, size: shared.FakeDetector._find(0, size)
    results = run_on_dataset(detector, shared.FakeDataset(), [-1, 1, 2], progress=False)
    assert results.by_kind == {"bbox": [], "segm": [], "keypoints": []}


@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_batches_cover_every_image_once(shared, batch_size):
    seen = []

    class Detector(shared.FakeDetector):
        def __call__(self, images):
            seen.extend(int(image[0, 0, 0]) for image in images)
            assert len(images) <= batch_size
            return super().__call__(images)

    run_on_dataset(
        Detector(), shared.FakeDataset(), [-1, 1, 2], batch_size=batch_size, progress=False
    )
    assert seen == list(range(shared.IMAGES))


def test_an_image_that_cannot_be_read_is_an_error(shared):
    class Broken(shared.FakeDataset):
        def __getitem__(self, index):
            if index == 5:
                raise ValueError("image 5 is damaged")
            return super().__getitem__(index)

    with pytest.raises(ValueError, match="image 5 is damaged"):
        run_on_dataset(shared.FakeDetector(), Broken(), [-1, 1, 2], progress=False)


def test_pillow_images_are_read(shared):
    from PIL import Image

    class FromPillow(shared.FakeDataset):
        def __getitem__(self, index):
            image, *rest = super().__getitem__(index)
            return Image.fromarray(np.ascontiguousarray(image)), *rest

    results = run_on_dataset(shared.FakeDetector(), FromPillow(), [-1, 1, 2], progress=False)
    assert len(results.by_kind["bbox"]) == 6


def test_a_batch_of_no_images_is_refused():
    with pytest.raises(ValueError, match="at least 1, but is -1"):
        batches_of(range(3), -1)
