"""One detector in several threads finds what it finds alone, from its first call on."""

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn_lib import COCODemo, get_cfg
from maskrcnn_lib.engine.inference import PACKAGED_MODEL, build_detector, choose_model
from maskrcnn_lib.layers.remembered import CACHED_SHAPES, remembered

PHOTOS = Path(__file__).parents[2] / "demo" / "images"
THREADS = 4
ROUNDS = 2


def photos():
    """Four RGB images of different sizes and content."""
    images = [np.array(Image.open(path).convert("RGB")) for path in sorted(PHOTOS.glob("*.jpg"))]
    images = images[: THREADS - 1]
    upright = images[0][:, : images[0].shape[1] // 2]
    return [*images, np.ascontiguousarray(upright)]


def at_once(work, arguments):
    """``work`` on each argument in a thread of its own, several times, all starting together."""
    barrier = threading.Barrier(len(arguments))

    def rounds(argument):
        barrier.wait(timeout=60)
        return [work(argument) for _ in range(ROUNDS)]

    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(rounds, arguments))


def assert_same(found, expected):
    assert found.size == expected.size and len(found) == len(expected) > 0
    assert torch.equal(found.bbox, expected.bbox)
    for field in ("scores", "labels", "mask"):
        assert torch.equal(found.get_field(field), expected.get_field(field))


def check_threads(model):
    cfg, weights = choose_model(model=model, overrides=["MODEL.DEVICE", "cpu"])
    detector, images = build_detector(cfg, weights), photos()
    # threads first: what is made at the first call is made by several at once
    together = at_once(lambda image: detector([image])[0], images)
    for image, rounds in zip(images, together, strict=True):
        (expected,) = detector([image])
        for found in rounds:
            assert_same(found, expected)


def test_threads_find_what_one_finds_alone():
    check_threads(PACKAGED_MODEL)


@pytest.mark.data
def test_threads_find_what_one_finds_alone_with_another_architecture(test_data, monkeypatch):
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(test_data / "weights"))
    check_threads("d2go/mask_rcnn_fbnetv3a_C4")


def test_threads_draw_the_same_pictures():
    cfg = get_cfg(PACKAGED_MODEL, ["MODEL.DEVICE", "cpu"])
    demo, images = COCODemo(cfg, confidence_threshold=0.2), [i[..., ::-1] for i in photos()]
    together = at_once(demo.run_on_opencv_image, images)
    for image, rounds in zip(images, together, strict=True):
        expected = demo.run_on_opencv_image(image)
        assert (expected != image).any()
        for drawn in rounds:
            np.testing.assert_array_equal(drawn, expected)


def test_threads_that_push_values_out_of_a_cache_get_the_right_ones():
    cache = OrderedDict()
    keys = [(key,) for key in range(2 * CACHED_SHAPES)]

    def read(shift):
        order = keys[shift:] + keys[:shift]
        return [remembered(cache, key, lambda key=key: [key]) == [key] for key in order * 20]

    results = at_once(read, [0, 7, 19, 50])
    assert all(all(right) for rounds in results for right in rounds)
    assert len(cache) <= CACHED_SHAPES
