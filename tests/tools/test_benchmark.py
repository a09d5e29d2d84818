"""``maskrcnn benchmark`` times what a detector does, and says what it found."""

import time

import numpy as np
import pytest
import torch

from maskrcnn_lib.engine.benchmark import Speed, measure_speed, speed_table
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.tools.cli import main


class _Slow:
    """Takes 20 ms for a batch, in which it finds one object per image."""

    class_names = ("__background__", "cat")
    device = torch.device("cpu")
    paste_rule = "integer"

    def __init__(self):
        self.calls = 0

    def __call__(self, images):
        self.calls += 1
        time.sleep(0.02)
        found = BoxList(torch.tensor([[1.0, 2, 30, 40]]), (64, 48))
        found.add_field("scores", torch.tensor([0.9]))
        found.add_field("labels", torch.tensor([1]))
        return [found for _ in images]


def test_every_round_is_timed_after_the_warm_up():
    detector = _Slow()
    speed = measure_speed(detector, [np.zeros((48, 64, 3), np.uint8)] * 2, rounds=4, warm_up=2)
    assert detector.calls == 6 and speed.images == 2 and speed.found == 2
    assert speed.model.shape == speed.results.shape == (4,)
    assert (speed.model >= 0.02).all() and (speed.results > 0).all()
    assert speed.memory > 10  # of any Python process, in megabytes


def test_table_is_per_image():
    seconds = np.array([0.1, 0.2, 0.9])
    _, model, results, both = speed_table(Speed(2, 0, seconds, seconds / 10, 1.0))
    assert model == ["model", "100.00", "60.00", "380.00", "10.00"]  # numpy interpolates linearly
    assert results[1] == "10.00" and both[1] == "110.00"


@pytest.mark.parametrize(("rounds", "count"), [(0, 1), (1, 0)])
def test_nothing_to_time_is_refused(rounds, count):
    images = [np.zeros((8, 8, 3), np.uint8)] * count
    with pytest.raises(ValueError, match="cannot be timed"):
        measure_speed(_Slow(), images, rounds=rounds)


def test_a_model_is_timed_on_photos(test_data, capsys):
    photos = sorted((test_data / "coco_mini" / "val2017").iterdir())[:2]
    options = ["--model", "maskrcnn_lib/mask_rcnn_mobilenetv2", "--rounds", "1"]
    line = [*map(str, photos), *options, "--batch-size", "3"]
    assert main(["benchmark", *line, "INPUT.MIN_SIZE_TEST", "160"]) == 0
    head, _, model, *_, last = capsys.readouterr().out.splitlines()
    assert head.startswith("stage") and float(model.split()[1]) > 0
    assert "batches of 3 images" in last and "float32" in last and "MB" in last
