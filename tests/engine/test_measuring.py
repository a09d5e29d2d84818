"""Evaluations that ranks share give what one process gives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from maskrcnn_lib.engine.testing import run_on_dataset

SCRIPT = Path(__file__).with_name("shared_evaluation.py")


def test_two_ranks_of_uneven_shares_find_what_one_finds(shared, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    together.mkdir()
    expected = shared.measure(alone)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    processes = [
        subprocess.Popen([sys.executable, SCRIPT, together, str(r)], env=environment)
        for r in range(2)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    first, second = (json.loads((together / f"rank{r}.json").read_text()) for r in range(2))
    assert second is None
    assert first == expected
    for name in ("bbox.json", "segm.json", "coco_results.json", "per_class.csv"):
        assert (together / name).read_text() == (alone / name).read_text(), name
    ids = [result["image_id"] for result in json.loads((alone / "bbox.json").read_text())]
    assert ids == [1, 2, 2, 4, 5, 5]


def test_a_detector_with_masks_that_finds_nothing_has_a_mask_score(shared):
    detector = shared.FakeDetector()
    detector._find = lambda number, size: shared.FakeDetector._find(0, size)
    results = run_on_dataset(detector, shared.FakeDataset(), [-1, 1, 2], progress=False)
    assert results.by_kind == {"bbox": [], "segm": []}


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
