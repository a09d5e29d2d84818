"""``demo/serve.py``, asked through FastAPI's own client."""

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn_lib.engine.inference import PACKAGED_MODEL, build_detector, choose_model

DEMO = Path(__file__).parents[2] / "demo"
PHOTO = DEMO / "images" / "chelsea.jpg"


@pytest.fixture(scope="module")
def serve():
    specification = importlib.util.spec_from_file_location("serve", DEMO / "serve.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def detector():
    cfg, weights = choose_model(model=PACKAGED_MODEL, overrides=["MODEL.DEVICE", "cpu"])
    return build_detector(cfg, weights)


@pytest.fixture(scope="module")
def client(serve, detector):
    for package in ("fastapi", "python_multipart", "httpx2"):
        pytest.importorskip(package)
    from fastapi.testclient import TestClient

    return TestClient(serve.create_app(detector))


def ask(client, content, **parameters):
    return client.post("/predict", files={"image": ("photo", content)}, params=parameters)


def test_an_image_becomes_coco_results(client, detector):
    from pycocotools import mask as coder

    answer = ask(client, PHOTO.read_bytes(), confidence=0.35).json()
    pixels = np.asarray(Image.open(PHOTO))
    assert (answer["height"], answer["width"]) == pixels.shape[:2]
    cat = answer["annotations"][0]
    label = detector.class_names.index("cat")  # other classes than COCO's: the label is the id
    assert (cat["category_id"], cat["category_name"]) == (label, "cat") and cat["score"] >= 0.35
    (found,) = detector([pixels])
    best = found.convert("xywh").bbox[found.get_field("scores").argmax()]
    assert cat["bbox"] == pytest.approx(best.tolist())
    assert 0.3 < coder.decode(cat["segmentation"]).mean() < 0.9  # the cat fills most of the photo
    assert "image_id" not in cat


def test_outlines_and_the_least_score_are_as_asked_for(client):
    everything = ask(client, PHOTO.read_bytes(), confidence=0, masks="polygons").json()
    few = ask(client, PHOTO.read_bytes(), confidence=0.35, masks="polygons").json()
    assert len(everything["annotations"]) > len(few["annotations"]) > 0
    (x, y, w, h), (outline, *_) = (few["annotations"][0][k] for k in ("bbox", "segmentation"))
    xs, ys = np.array(outline).reshape(-1, 2).T
    assert x - 2 < xs.min() and xs.max() < x + w + 2 and y - 2 < ys.min() and ys.max() < y + h + 2


@pytest.mark.parametrize(
    ("content", "parameters", "status", "said"),
    [
        (b"nothing", {}, 400, "no image that can be read"),
        (b"nothing", {"confidence": 70}, 422, "less than or equal to 1"),
        (b"nothing", {"masks": "bitmaps"}, 422, "polygons"),
    ],
)
def test_what_cannot_be_answered_is_explained(client, content, parameters, status, said):
    reply = ask(client, content, **parameters)
    assert reply.status_code == status and said in reply.text


def test_a_file_that_is_too_large_is_refused(client, serve, monkeypatch):
    monkeypatch.setattr(serve, "LARGEST_FILE", 100)
    reply = ask(client, PHOTO.read_bytes())
    assert reply.status_code == 413 and "100 bytes" in reply.text


def test_requests_at_once_get_the_same_answers(client):
    alone = ask(client, PHOTO.read_bytes()).json()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: ask(client, PHOTO.read_bytes()).json(), range(4)))
    assert answers == [alone] * 4


def test_page_needs_nothing_from_elsewhere(client):
    page = client.get("/").text
    assert 'type="file"' in page and "predict?masks=polygons" in page and "://" not in page


def test_fastapi_that_is_missing_is_named(serve, detector, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.setattr(sys, "argv", ["serve.py"])
    with pytest.raises(SystemExit, match="pip install fastapi uvicorn python-multipart"):
        serve.main()
    with pytest.raises(ImportError, match="pip install fastapi uvicorn python-multipart"):
        serve.create_app(detector)
