"""The report in a browser."""

import json
import re
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from maskrcnn_lib.evaluation.coco_eval import evaluate_coco
from maskrcnn_lib.report.errors import Verdict, judge
from maskrcnn_lib.report.matching import match_images
from maskrcnn_lib.report.page import fill_page
from maskrcnn_lib.tools.cli import main

from .scenes import content, results

# What the tip says of each cell of a matrix with so many rows.
CELL_TEXTS = """(count) => {
  const canvas = document.querySelector("#matrix canvas");
  const { left, top, width } = canvas.getBoundingClientRect();
  const cell = (width - 110) / count;
  return Array.from({ length: count * count }, (_, i) => {
    const [row, column] = [Math.floor(i / count), i % count];
    canvas.dispatchEvent(new PointerEvent("pointermove", {
      clientX: left + 110 + (column + 0.5) * cell, clientY: top + 110 + (row + 0.5) * cell }));
    return document.getElementById("tip").textContent;
  });
}"""
RIGHT, IGNORED = Verdict.FOUND, Verdict.IGNORED


@pytest.fixture(scope="session")
def judged(scene):
    content, found = scene
    return [judge(match) for match in match_images(content, found, "bbox")]


def _counts(one, threshold):
    """Right, wrong and missed of an image at a confidence."""
    scores = [entry["score"] for entry in one.match.found]
    shown = [v for v, s in zip(one.verdicts.tolist(), scores, strict=True) if s >= threshold]
    right = shown.count(RIGHT)
    wrong = sum(v not in (RIGHT, IGNORED) for v in shown)
    return right, wrong, len(one.match.objects) - right


def _set_confidence(page, value):
    page.locator("#threshold").fill(str(value))
    page.wait_for_timeout(100)


def _cards(page):
    page.locator("#images").scroll_into_view_if_needed()
    page.evaluate("document.getElementById('grid').scrollIntoView()")
    page.wait_for_selector(".card")
    return page.eval_on_selector_all(".card", "cards => cards.map(card => card.dataset.name)")


def test_sections_are_there_and_the_title_is_text(look, report_file):
    page = look(report_file)
    assert page.inner_text("h1") == "Pets <b>"
    names = page.eval_on_selector_all("nav a", "links => links.map(link => link.textContent)")
    assert names == [
        *("Overview", "Errors", "Curves", "Classes", "Confusion", "Distributions", "Training"),
        "Images",
    ]
    for section in ("curves", "confusion", "histograms", "training"):
        page.locator(f"#{section}").scroll_into_view_if_needed()
        page.wait_for_selector(f"#{section} svg, #{section} canvas")
    assert page.locator("#training-curves svg path.line").count() == 4
    assert page.locator("#training-curves svg circle").count() == 1  # AP is one point


def test_scores_are_those_of_pycocotools(look, report_file, scene):
    page = look(report_file)
    expected = evaluate_coco(*scene, "bbox", backend="pycocotools")
    tiles = page.eval_on_selector_all(
        ".tile", "tiles => tiles.map(tile => [tile.children[1].textContent, tile.textContent])"
    )
    shown = {name: text.removesuffix(name) for name, text in tiles}
    for label, metric in {"AP": "AP", "AP at 0.5": "AP50", "AP medium": "APm"}.items():
        assert float(shown[label]) == pytest.approx(100 * expected.metrics[metric], abs=0.051)
    rows = page.eval_on_selector_all(
        "#class-table tbody tr",
        "rows => rows.map(row => [...row.children].map(c => c.textContent))",
    )
    assert {row[0] for row in rows} == set(expected.per_class)
    for name, _, _, ap, *_ in rows:
        assert float(ap) == pytest.approx(100 * expected.per_class[name], abs=0.051)


def test_class_table_sorts_and_filters(look, report_file):
    page = look(report_file)
    page.get_by_role("button", name="AP", exact=True).click()
    cells = page.eval_on_selector_all(
        "#class-table td.ap", "cells => cells.map(c => +c.textContent)"
    )
    assert cells == sorted(cells, reverse=True) and len(cells) == 3
    page.fill("#class-search", "DO")
    assert page.locator("#class-table tbody tr").count() == 1


@pytest.mark.parametrize("percent", [50, 80])
def test_confidence_decides_what_is_drawn_and_counted(look, report_file, judged, percent):
    page = look(report_file)
    _set_confidence(page, percent)
    counts = [_counts(one, percent / 100) for one in judged]
    right, wrong, missed = map(sum, zip(*counts, strict=True))
    live = re.findall(r"[\d.]+", page.inner_text("#live"))
    assert float(live[0]) == pytest.approx(100 * right / (right + wrong), abs=0.051)
    assert float(live[-1]) == pytest.approx(100 * right / (right + missed), abs=0.051)
    by_name = {
        one.match.image["file_name"]: count for one, count in zip(judged, counts, strict=True)
    }
    names = _cards(page)
    assert len(names) >= 8
    for name in names[:8]:
        card = page.locator(f".card[data-name='{name}']")
        hit, false, lost = by_name[name]
        assert (
            card.locator(".counts").inner_text() == f"{hit} right · {false} wrong · {lost} missed"
        )
        assert card.locator("path.edge:not(.dashed)").count() == hit + false
        assert card.locator("path.dashed").count() == hit + lost


def test_images_are_sorted_by_how_wrong_they_are(look, report_file, judged):
    page = look(report_file)
    mistakes = {one.match.image["file_name"]: sum(_counts(one, 0.5)[1:]) for one in judged}
    names = _cards(page)
    best = sorted(mistakes.values(), reverse=True)
    assert [mistakes[name] for name in names] == best[: len(names)]
    page.select_option("#sort", "name")
    names = _cards(page)
    assert names == sorted(mistakes)[: len(names)]


def test_filters_leave_the_images_that_are_asked_for(look, report_file, judged):
    page = look(report_file)
    page.locator("#error-filter button[data-kind=localisation]").click()
    wanted = sum(
        any(
            verdict == Verdict.LOCALISATION and entry["score"] >= 0.5
            for verdict, entry in zip(one.verdicts, one.match.found, strict=True)
        )
        for one in judged
    )
    assert page.inner_text("#shown") == f"{wanted} of 40 images" and 0 < wanted < 40
    page.fill("#name-filter", "no such name")
    assert page.locator(".card").count() == 0
    assert page.locator("#grid").inner_text().startswith("No image")


def test_most_frequent_confusions_are_counted(look, report_file, scene, judged):
    page = look(report_file)
    names = {c["id"]: c["name"] for c in scene[0]["categories"]}
    counts = Counter()
    for one in judged:
        found, objects = one.match.found, one.match.objects
        taken = {
            one.concerns[d]
            for d, e in enumerate(found)
            if e["score"] >= 0.5 and not one.verdicts[d]
        }
        for d, entry in enumerate(found):
            rivals = [
                (one.match.overlaps[d, g], -g)
                for g, truth in enumerate(objects)
                if truth["category_id"] != entry["category_id"]
            ]
            overlap, target = max(rivals, default=(0.0, 0))
            if one.verdicts[d] and entry["score"] >= 0.5 <= overlap and -target not in taken:
                taken.add(-target)
                counts[names[objects[-target]["category_id"]], names[entry["category_id"]]] += 1
    lines = page.eval_on_selector_all("#confusions li", "items => items.map(i => i.textContent)")
    parts = [re.fullmatch(r"(\w+) → (\w+) (\d+).", line).groups() for line in lines]
    shown = {(annotated, called): int(number) for annotated, called, number in parts}
    assert shown == dict(counts) and counts
    page.locator("#confusions button").first.click()
    assert page.locator("#pair-filter").is_visible()
    assert int(page.inner_text("#shown").split()[0]) <= max(counts.values())


def test_one_image_is_shown_large_and_the_keyboard_goes_on(look, report_file):
    page = look(report_file)
    names = _cards(page)
    page.locator(".card").first.click()
    assert page.inner_text("#viewer-name") == names[0]
    assert page.locator("#viewer-picture image").get_attribute("href").startswith("data:image/jpeg")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#viewer-name") == names[1]
    found = page.locator("#viewer-picture path.edge:not(.dashed)").count()
    page.uncheck("#show-found")
    assert page.locator("#viewer-picture path.edge:not(.dashed)").count() == 0 < found
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()


def test_the_wheel_magnifies_the_place_under_the_pointer(look, report_file):
    page = look(report_file)
    _cards(page)
    page.locator(".card").first.click()
    box = page.locator("#viewer-picture svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -300)
    page.wait_for_selector("#whole")
    svg = page.locator("#viewer-picture svg")
    # twice as large, the middle stays
    assert [float(v) for v in svg.get_attribute("viewBox").split()] == pytest.approx(
        [25, 25, 50, 50], abs=0.5
    )
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 1000, box["y"] + box["height"] / 2)
    page.mouse.up()
    assert float(svg.get_attribute("viewBox").split()[0]) == 0  # not beyond the edge
    page.keyboard.press("0")
    assert svg.get_attribute("viewBox") == "0 0 100 100"
    assert not page.locator("#whole").is_visible()


def test_an_entry_of_the_list_lights_its_outline_for_the_keyboard_too(look, report_file):
    page = look(report_file)
    _cards(page)
    page.locator(".card").first.click()
    notes = page.locator("#viewer-list ul").last.locator("small").all_inner_texts()
    assert notes == sorted(notes, reverse=True) and notes[0] == "missed"
    page.locator("#viewer-list li").first.focus()
    assert page.locator("#viewer-picture g.lit").count() == 1
    assert page.locator("#viewer-picture g.dim").count() > 0
    page.locator("#viewer-list li").last.hover()  # the pointer takes over, nothing stays lit
    assert page.locator("#viewer-picture g.lit").count() == 1


def test_paper_gets_all_charts_and_a_light_scheme(look, report_file):
    page = look(report_file, scheme="dark")
    assert page.locator("#training svg").count() == 0  # far below the window
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#training svg").count() == 3
    assert page.locator("#curves svg").count() == 3 and page.locator("#matrix canvas").count() == 1
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(26, 29, 35)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(look, report_file, scheme):
    page = look(report_file, width=390, height=844, scheme=scheme)
    for section in ("errors", "curves", "classes", "confusion", "histograms", "training"):
        page.locator(f"#{section}").scroll_into_view_if_needed()
    _cards(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".card").first.click()
    assert page.locator("#viewer").bounding_box()["width"] <= 390
    assert page.evaluate("document.getElementById('viewer').scrollWidth") <= 390


@pytest.fixture
def many_images(monkeypatch):
    """Makes the data of a page with as many images as asked for."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    yield import_module("report_page").many_images
    sys.modules.pop("report_page")


def test_of_5000_images_only_those_near_the_window_are_drawn(look, many_images, tmp_path):
    (tmp_path / "many.html").write_text(fill_page("many", *many_images(5000)), encoding="utf-8")
    page = look(tmp_path / "many.html")
    assert page.inner_text("#shown") == "5\u202f000 images"
    first = _cards(page)
    assert 8 <= len(first) <= 60
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    page.wait_for_selector(".card[aria-posinset='5000']")
    last = page.eval_on_selector_all(".card", "cards => cards.map(card => card.dataset.name)")
    assert len(last) <= 60 and not set(first) & set(last)


def test_of_many_classes_the_matrix_shows_those_that_are_confused(look, many_images, tmp_path):
    data, pictures = many_images(60)
    for item in data["gallery"]["items"]:
        for found in item["found"]:
            found[2:5] = [1, -1, -1]  # of nothing, but for one kind of confusion
    item = data["gallery"]["items"][7]
    item["objects"][0][0] = 70
    item["found"][0][:5] = [41, 990, 1, 0, 0]
    (tmp_path / "classes.html").write_text(fill_page("classes", data, pictures), encoding="utf-8")
    page = look(tmp_path / "classes.html")
    page.locator("#matrix").scroll_into_view_if_needed()
    page.wait_for_selector("#matrix canvas")
    assert page.locator("#confusions button").all_inner_texts() == ["class 70 → class 41"]
    seen = page.evaluate(CELL_TEXTS, 22)  # 20 classes, the others together, and nothing
    assert any(text.startswith("annotated: class 70\nfound: class 41\n1 (") for text in seen)
    assert any(text.startswith("annotated: other classes\nfound: missed\n") for text in seen)
    page.select_option("#matrix-classes", "all")
    page.wait_for_function("document.querySelector('#matrix canvas').clientWidth > 900")


def test_drawing_what_is_above_does_not_move_the_images(look, many_images, tmp_path):
    (tmp_path / "many.html").write_text(fill_page("many", *many_images(50)), encoding="utf-8")
    page = look(tmp_path / "many.html")
    place = "document.getElementById('images').getBoundingClientRect().top + scrollY"
    before = page.evaluate(place)
    for section in ("curves", "confusion", "histograms", "images"):
        page.locator(f"#{section}").scroll_into_view_if_needed()
        page.wait_for_selector(f"#{section} svg, #{section} canvas")
    assert abs(page.evaluate(place) - before) < 60  # lines of the charts' keys


def test_names_cannot_become_markup(look, many_images, tmp_path):
    data, pictures = many_images(1)
    evil = "</script><img src=x onerror=alert(1)>"
    data["gallery"]["items"][0]["name"] = evil
    data["classes"] = [evil] * 80
    (tmp_path / "evil.html").write_text(fill_page(evil, data, pictures), encoding="utf-8")
    page = look(tmp_path / "evil.html")
    assert page.inner_text("h1") == evil
    assert page.locator("img").count() == 0
    assert _cards(page) == [evil]


def test_key_points_are_drawn_with_their_lines(look, tmp_path):
    seen, hidden = [20, 20, 2, 40, 20, 2, 30, 50, 2], [20, 20, 2, 40, 20, 0, 30, 50, 2]
    box = [10, 10, 40, 50]
    scene = content([(1, 1, box, {"keypoints": hidden, "num_keypoints": 2})], classes=1)
    scene["categories"][0] |= {"keypoints": ["a", "b", "c"], "skeleton": [[1, 2], [2, 3]]}
    (tmp_path / "truth.json").write_text(json.dumps(scene))
    (found,) = results([(1, 1, box, 0.9)])
    points = {key: value for key, value in found.items() if key != "bbox"} | {"keypoints": seen}
    for kind, entry in (("bbox", found), ("keypoints", points)):
        (tmp_path / f"{kind}.json").write_text(json.dumps([entry]))
    path = tmp_path / "report.html"
    truth = ["--test-json", str(tmp_path / "truth.json")]
    assert main(["report", str(tmp_path), *truth, "-o", str(path)]) == 0
    page = look(path)
    assert page.locator("#kinds button").all_inner_texts() == ["Boxes", "Key points"]
    _cards(page)
    lines = page.eval_on_selector_all(
        ".bones", "paths => paths.map(path => path.getAttribute('d'))"
    )
    # the annotated point in the middle is not seen, so that no line reaches it
    assert lines == ["", "M20.5 20.5L40.5 20.5M40.5 20.5L30.5 50.5"]
    page.get_by_role("button", name="Key points").click()
    assert not page.locator("#errors").is_visible()
    assert page.locator(".tile.main b").inner_text() == "100.0"


def test_results_that_found_nothing_have_a_page(look, run_folder, tmp_path):
    (tmp_path / "bbox.json").write_text("[]")
    places = ["--test-json", str(run_folder / "val.json"), "--thumbnails", "0"]
    assert main(["report", str(tmp_path), *places, "-o", str(tmp_path / "report.html")]) == 0
    page = look(tmp_path / "report.html")
    assert page.locator(".tile.main b").inner_text() == "0.0"
    assert page.inner_text("#live").split() == ["precision", "\u2013", "·", "recall", "0.0"]
    name = _cards(page)[0]
    assert page.locator(f".card[data-name='{name}'] image").count() == 0


def test_a_run_without_results_shows_its_training(look, run_folder, tmp_path):
    (tmp_path / "metrics.jsonl").write_text((run_folder / "metrics.jsonl").read_text())
    assert main(["report", str(tmp_path), "-o", str(tmp_path / "report.html")]) == 0
    page = look(tmp_path / "report.html")
    names = page.eval_on_selector_all("nav a", "links => links.map(link => link.textContent)")
    assert names == ["Training"]
    assert json.loads(page.inner_text("#data") or page.text_content("#data"))["kinds"] == {}
