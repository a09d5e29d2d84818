"""``demo/webcam.py`` with a video in the camera's place, and a list in the window's."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "demo" / "webcam.py"
CONFIG = "d2go/mask_rcnn_fbnetv3a_C4"


@pytest.fixture(scope="module")
def webcam():
    specification = importlib.util.spec_from_file_location("webcam", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def people(test_data, monkeypatch):
    """Arguments for a video of 960 x 540 pixels with a person on each of its five frames."""
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(test_data / "weights"))
    weights = str(test_data / "weights" / "mask_rcnn_fbnetv3a_float.pth")
    return [
        *("--camera", str(test_data / "videos" / "mmpose_demo.mp4")),
        *("--config-file", CONFIG, "--weights", weights),
    ]


@pytest.mark.data
def test_each_frame_is_shown_with_what_is_found(webcam, people, capsys):
    shown, plain = [], []
    webcam.main([*people, "--max-frames", "2"], lambda picture: not shown.append(picture))
    nothing = ["--confidence-threshold", "1", "--max-frames", "2"]
    webcam.main([*people, *nothing], lambda picture: not plain.append(picture))
    assert capsys.readouterr().out.count("s / image") == 4
    assert [p.shape for p in shown] == [(540, 960, 3)] * 2
    for drawn, frame in zip(shown, plain, strict=True):
        assert (drawn != frame).any(axis=-1).mean() > 0.01


@pytest.mark.data
@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
def test_without_a_display_or_a_camera_it_says_so_and_fails(webcam, people, tmp_path, capfd):
    """As a user starts it; OpenCV would abort for want of the first."""
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        environment.pop(name, None)
    command = [sys.executable, str(SCRIPT), *people]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "there is no display" in done.stderr
    assert "Traceback" not in done.stderr
    with pytest.raises(ValueError, match="camera 987 does not answer"):
        webcam.main(["--camera", "987"], lambda picture: True)
    assert not capfd.readouterr().err


@pytest.mark.data
def test_escape_ends_it(webcam, people):
    shown = []
    webcam.main(people, lambda picture: bool(shown.append(picture)))
    assert len(shown) == 1


@pytest.mark.data
def test_the_image_size_reaches_the_network(webcam, people, monkeypatch):
    """maskrcnn-benchmark's script took the flag and went on with the config's size."""
    seen = []
    original = webcam.COCODemo.run_on_opencv_image

    def run(demo, image):
        image_lists = []
        handle = demo.detector.model.register_forward_pre_hook(
            lambda module, inputs: image_lists.append(inputs[0])
        )
        try:
            return original(demo, image)
        finally:
            handle.remove()
            seen.append(min(image_lists[0].image_sizes[0]))

    monkeypatch.setattr(webcam.COCODemo, "run_on_opencv_image", run)
    for size in ("96", "160"):
        arguments = ["--max-frames", "1", "--min-image-size", size]
        webcam.main([*people, *arguments], lambda picture: True)
    assert seen == [96, 160]


@pytest.mark.data
def test_heat_maps_are_a_grid_of_the_masks(webcam, people):
    grids = {}
    for per_dim in (1, 3):
        options = ["--show-mask-heatmaps", "--masks-per-dim", str(per_dim), "--max-frames", "1"]
        options += ["--confidence-threshold", "0.3"]
        webcam.main(
            [*people, *options, "INPUT.MAX_SIZE_TEST", "900"],
            lambda picture, key=per_dim: bool(grids.setdefault(key, picture) is None),
        )
    # hot pixels, BGR, where a mask is sure; a third of the size where there are nine
    hot = {n: (grid[..., 2].astype(int) - grid[..., 0] > 60).mean() for n, grid in grids.items()}
    assert hot[1] > 0.01
    assert np.abs(np.subtract(grids[3].shape, grids[1].shape)).max() <= 3
    assert hot[3] > 0 and (grids[3] != grids[1]).any()
