"""Pictures of a training are made of its records, whatever they hold."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from maskrcnn_lib.visualization.curves import draw_curves, draw_label_statistics

RECORDS = [
    {"iteration": 10, "loss": 2.0, "loss_mask": 1.0, "lr": 0.01, "grad_norm": 3.0},
    {"iteration": 20, "loss": 1.0, "loss_mask": 0.5, "lr": 0.02, "grad_norm": 2.0},
    {"iteration": 20, "val/segm/AP": 0.3, "val/segm/AP50": 0.5},
]


def _ink(path):
    """Share of pixels that are not white."""
    return (np.asarray(Image.open(path).convert("L")) < 250).mean()


@pytest.mark.parametrize("records", [RECORDS, RECORDS[:1], RECORDS[2:], []])
def test_curves_are_drawn_of_any_records(records, tmp_path):
    draw_curves(records, tmp_path / "results.png")
    assert _ink(tmp_path / "results.png") > 0.005


def test_more_records_make_more_ink(tmp_path):
    for name, records in (("few", []), ("all", RECORDS)):
        draw_curves(records, tmp_path / f"{name}.png")
    assert _ink(tmp_path / "all.png") > _ink(tmp_path / "few.png")


@pytest.mark.parametrize("classes", [1, 100])
def test_label_statistics_are_drawn(classes, tmp_path):
    counts = {f"class {i}": i + 1 for i in range(classes)}
    draw_label_statistics(counts, np.random.default_rng(0).random((50, 2)), tmp_path / "l.jpg")
    assert _ink(tmp_path / "l.jpg") > 0.01
    draw_label_statistics(counts, np.zeros((0, 2)), tmp_path / "none.jpg")
    assert (tmp_path / "none.jpg").is_file()
