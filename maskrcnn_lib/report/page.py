"""Puts a report together: one HTML file that needs nothing else and asks for nothing."""

import html
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from maskrcnn_lib import __version__
from maskrcnn_lib.evaluation.ground_truth import coco_content
from maskrcnn_lib.evaluation.rules import has_truth
from maskrcnn_lib.report.collect import Run, with_keypoints
from maskrcnn_lib.report.curves import measure_kind, training_curves
from maskrcnn_lib.report.errors import Judged, break_down, judge
from maskrcnn_lib.report.gallery import gallery_items, thumbnail_side, thumbnails
from maskrcnn_lib.report.matching import match_images

logger = logging.getLogger(__name__)

# The last that is matched is the one whose errors the images show.
_KINDS = ("keypoints", "bbox", "segm")

# In the order in which they build on each other.
_SCRIPTS = (
    "core",
    "charts",
    "tables",
    "counting",
    "confusion",
    "gallery",
    "zoom",
    "viewer",
    "main",
)


def build_report(
    run: Run,
    *,
    title: str = "",
    min_score: float = 0.05,
    side: int | None = None,
) -> str:
    """The report of a run as an HTML page.

    Args:
        run: see :func:`maskrcnn_lib.report.collect.collect`.
        title: heading; by default the name of the run.
        min_score: detections below it are not shown; the scores are of all.
        side: pixels of the longer side of a thumbnail; 0 for no pictures; by default as large as
            the number of images allows, see
            :func:`maskrcnn_lib.report.gallery.thumbnail_side`.

    Raises:
        ValueError: results do not fit the data set.
    """
    if not 0 <= min_score < 0.99:
        raise ValueError(f"the lowest score must be from 0 to 0.99, got {min_score}")
    content = coco_content(run.dataset) if run.results else {}
    data: dict[str, Any] = {"subtitle": "", "notes": [], "kinds": {}, "classes": []}
    data |= {"training": training_curves(run.records), "gallery": None}
    pictures: list[str] = []
    if run.results:
        data["classes"] = [
            c["name"] for c in sorted(content["categories"], key=lambda category: category["id"])
        ]
        pictures = _add_results(data, run, content, min_score=min_score, side=side)
        data["subtitle"] = _subtitle(content, run)
    return fill_page(title or run.name, data, pictures)


def _add_results(
    data: dict[str, Any],
    run: Run,
    content: Mapping[str, Any],
    *,
    min_score: float,
    side: int | None,
) -> list[str]:
    """Adds scores, errors and the gallery to the data of the page; gives the thumbnails."""
    ids = sorted(category["id"] for category in content["categories"])
    judged: list[Judged] = []
    shown = ""
    for kind in _KINDS:
        if kind not in run.results or not _can_be_scored(content, kind, data["notes"]):
            continue
        results = with_keypoints(run.results, kind)
        measured = measure_kind(content, results, kind, sigmas=run.sigmas)
        if kind in ("bbox", "segm"):
            judged, shown = [judge(match) for match in match_images(content, results, kind)], kind
            measured["errors"] = asdict(break_down(judged, ids))
        data["kinds"][kind] = measured
    if not shown:
        data["notes"].append("Images are shown for results that have boxes or masks.")
        return []
    if "bbox" in data["kinds"] and shown == "segm":
        data["notes"].append("Confusions, distributions and images are those of the masks.")
    items, left_out = gallery_items(judged, shown, ids, min_score=min_score)
    if left_out:
        data["notes"].append(
            f"{left_out} detections of scores below {min_score:g} count in the scores, but are not "
            "drawn and not in the counts that depend on the confidence."
        )
    side = thumbnail_side(len(items)) if side is None else side
    pictures = [""] * len(items)
    if run.has_images and side:
        pictures = thumbnails(run.dataset, [one.match.image["id"] for one in judged], side)
    data["gallery"] = {
        "items": items,
        "thumbnails": [len(picture) for picture in pictures],
        "skeleton": getattr(getattr(run.dataset, "skeleton", None), "connections", ()),
        "min_percent": max(1, round(100 * min_score)),
    }
    return pictures


def _can_be_scored(content: Mapping[str, Any], kind: str, notes: list[str]) -> bool:
    if has_truth(content, kind):
        return True
    notes.append(f"There are {kind} results, but not every object is annotated so: not scored.")
    logger.warning(notes[-1])
    return False


def _subtitle(content: Mapping[str, Any], run: Run) -> str:
    objects = sum(not entry.get("iscrowd", 0) for entry in content["annotations"])
    found = max(map(len, run.results.values()))
    return (
        f"{len(content['images']):,} images · {objects:,} objects · {found:,} detections · "
        f"{len(content['categories'])} classes · COCO's rules"
    )


def fill_page(title: str, data: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """The page around the data.

    Args:
        title: plain text.
        data: what the scripts read.
        pictures: JPEG files in base64, one per image of the gallery.
    """
    templates = files("maskrcnn_lib.report") / "templates"
    scripts = [(templates / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS]
    # "<" could end the script element that holds the text
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return Template((templates / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        style=(templates / "style.css").read_text(encoding="utf-8"),
        data=text,
        script='(() => {\n"use strict";\n' + "\n".join(scripts) + "\n})();",
        thumbnails="".join(pictures),
        footer=f"Made with maskrcnn_lib {__version__}; this file holds everything it shows.",
    )


def write_report(run: Run, path: str | Path, **options: Any) -> Path:
    """Writes :func:`build_report`, whose options it takes, to a file."""
    path = Path(path)
    page = build_report(run, **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path
