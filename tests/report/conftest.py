"""A browser, and a report to look at."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from maskrcnn_lib.tools.cli import main

from .scenes import random_scene

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_QUIET = ("--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window; skips the test where there is none."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(_BROWSERS)} is on the PATH")
    with driver.sync_playwright() as playwright:
        # root may only start it without its sandbox
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *_QUIET])
        yield started
        started.close()


@pytest.fixture
def look(browser):
    """Opens a page; fails the test where the page complains or asks for anything from outside."""
    complaints, contexts = [], []

    def open_page(path, *, width=1200, height=800, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type != "log" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(request.url[:80]))
        page.on(
            "request",
            lambda r: r.url.startswith(("file:", "data:")) or complaints.append(r.url),
        )
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def scene():
    """40 images of three classes with detections, in COCO's form."""
    return random_scene(5, images=40)


@pytest.fixture(scope="session")
def run_folder(scene, tmp_path_factory):
    """What a training leaves: records, and results of its data set."""
    content, found = scene
    folder = tmp_path_factory.mktemp("run")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for image in content["images"]:
        pixels = rng.integers(0, 255, (5, 5, 3), dtype=np.uint8).repeat(20, 0).repeat(20, 1)
        Image.fromarray(pixels).save(folder / "images" / image["file_name"])
    (folder / "val.json").write_text(json.dumps(content))
    results = folder / "inference" / "val"
    results.mkdir(parents=True)
    (results / "bbox.json").write_text(json.dumps(found))
    places = {"annotations": str(folder / "val.json"), "images": str(folder / "images")}
    (results / "dataset.json").write_text(json.dumps(places))
    records = [
        {"iteration": i, "loss": 2 / i, "loss_mask": 1 / i, "lr": 0.01} for i in range(1, 50)
    ]
    lines = [json.dumps(record) for record in [*records, {"iteration": 49, "val/bbox/AP": 0.3}]]
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session")
def report_file(run_folder):
    """The report of that training."""
    path = run_folder / "report.html"
    assert main(["report", str(run_folder), "-o", str(path), "--title", "Pets <b>"]) == 0
    return path
