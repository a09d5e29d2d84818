"""How long a report of many images takes to open, and to follow its slider, in Chromium.

    python benchmarks/report_page.py [--images 5000] [--rounds 5]

Prints medians. Elapsed times suffer from other programs on the machine; the CPU time of the page's
main thread hardly does. Needs playwright and a Chromium on the PATH.
"""

import argparse
import base64
import random
import shutil
import statistics
import tempfile
from pathlib import Path

from maskrcnn_lib.report.page import fill_page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OBJECTS, FOUND, CLASSES = 7, 15, 80  # per image about as in COCO's validation set
OUTLINE, THUMBNAIL = 100, 4500  # characters of a mask, bytes of a JPEG file 192 pixels wide
SLIDE = """() => {
  const slider = document.getElementById("threshold");
  slider.value = slider.value === "30" ? "60" : "30";
  const started = performance.now();
  slider.dispatchEvent(new Event("input"));
  return new Promise((done) => requestAnimationFrame(() =>
    requestAnimationFrame(() => done(performance.now() - started))));
}"""


def many_images(count):
    """Data of a page with masks on ``count`` images, and their thumbnails, which are noise."""
    rng = random.Random(0)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    outlines = ["".join(rng.choices(letters, k=OUTLINE)) for _ in range(100)]
    box = (10, 10, 50, 50)

    def detection(k):
        score, verdict = rng.randrange(50, 1000), rng.randrange(6)
        return [rng.randrange(CLASSES), score, verdict, k % OBJECTS, -1, *box, rng.choice(outlines)]

    items = [
        {
            "name": f"{i:06d}.jpg",
            "width": 640,
            "height": 480,
            "objects": [
                [rng.randrange(CLASSES), *box, 50, rng.choice(outlines)] for _ in range(OBJECTS)
            ],
            "found": [detection(k) for k in range(FOUND)],
        }
        for i in range(count)
    ]
    picture = base64.b64encode(rng.randbytes(THUMBNAIL)).decode("ascii")
    nothing = [None] * CLASSES
    scores = {
        "metrics": {"AP": 0.5},
        "classes": [[1, 1, *[0.5] * 7]] * CLASSES,
        "precision": {"mean": [[500] * 101] * 10, "at_50": nothing, "at_75": nothing},
        "errors": None,
    }
    data = {
        "subtitle": f"{count} images",
        "notes": [],
        "classes": [f"class {k}" for k in range(CLASSES)],
        "kinds": {"segm": scores},
        "training": [],
        "gallery": {
            "items": items,
            "thumbnails": [len(picture)] * count,
            "skeleton": [],
            "min_percent": 5,
        },
    }
    return data, [picture] * count


def measure(browser, path):
    """Milliseconds to the first paint, until all is loaded, of the main thread's CPU, and from a
    move of the slider to the next frame."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    tools = page.context.new_cdp_session(page)
    tools.send("Performance.enable")
    page.goto(path.as_uri())
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    loaded = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    metrics = {m["name"]: m["value"] for m in tools.send("Performance.getMetrics")["metrics"]}
    page.evaluate("document.getElementById('grid').scrollIntoView()")
    page.wait_for_selector(".card")
    moved = page.evaluate(SLIDE)
    page.close()
    return paint, loaded, 1e3 * metrics["ThreadTime"], moved


def main():
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    program = next(filter(None, map(shutil.which, BROWSERS)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "report.html"
        path.write_text(fill_page("many", *many_images(options.images)), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        rounds = [measure(browser, path) for _ in range(options.rounds)]
        browser.close()
        size = path.stat().st_size / 1e6
    print(f"{options.images} images, {size:.0f} MB, medians of {options.rounds} in milliseconds:")
    names = ("first paint", "all loaded", "CPU of the main thread", "slider to next frame")
    for name, times in zip(names, zip(*rounds, strict=True), strict=True):
        print(f"{name:<24} {statistics.median(times):6.0f}")


if __name__ == "__main__":
    main()
