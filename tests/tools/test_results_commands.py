"""``maskrcnn eval``, ``show`` and ``report`` on real annotations and images."""

import json

import numpy as np
import pytest
from PIL import Image

from maskrcnn_lib.data.datasets import COCODataset
from maskrcnn_lib.data.image_io import read_image
from maskrcnn_lib.engine.measuring import score_and_write
from maskrcnn_lib.engine.testing import DatasetResults
from maskrcnn_lib.tools.cli import main


@pytest.fixture(scope="module")
def photos(test_data):
    """The first 30 validation images."""
    mini = test_data / "coco_mini"
    content = json.loads((mini / "annotations" / "instances_val2017.json").read_text())
    content["images"] = sorted(content["images"], key=lambda image: image["id"])[:30]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    return content, mini / "val2017"


@pytest.fixture(scope="module")
def results(photos):
    """Every second object found, with its mask and a box moved by up to five pixels."""
    content, _ = photos
    rng = np.random.default_rng(0)
    found = []
    for annotation in content["annotations"][::2]:
        if not annotation["iscrowd"]:
            box = np.add(annotation["bbox"], [*rng.uniform(-5, 5, 2), 0, 0]).tolist()
            keys = {key: annotation[key] for key in ("image_id", "category_id", "segmentation")}
            found.append({**keys, "bbox": box, "score": float(rng.uniform(0.3, 1))})
    return found


@pytest.fixture(scope="module")
def run_folder(photos, results, tmp_path_factory):
    """What ``maskrcnn test`` leaves for one data set."""
    content, images = photos
    root = tmp_path_factory.mktemp("run")
    (root / "some.json").write_text(json.dumps(content))
    dataset = COCODataset(root / "some.json", images)
    kinds = {kind: [dict(entry) for entry in results] for kind in ("bbox", "segm")}
    score_and_write("some", dataset, DatasetResults(kinds, images=30), root / "inference" / "some")
    return root


@pytest.mark.parametrize(
    ("kind", "expected"), [("bbox", [0.505, 0.697, 0.573]), ("segm", [0.320, 0.562, 0.299])]
)
def test_eval_gives_the_table_of_the_coco_api(test_data, tmp_path, kind, expected, capsys):
    folder = test_data / "coco_conformance"
    truth = folder / "instances_val2014_100.json"
    fake = folder / f"instances_val2014_fake{kind}100_results.json"
    command = ["eval", str(fake), "--test-json", str(truth), "--eval", kind]
    assert main([*command, "--output", str(tmp_path)]) == 0
    scores = json.loads((tmp_path / "coco_results.json").read_text())
    assert list(scores) == [kind]
    got = [scores[kind][metric] for metric in ("AP", "AP50", "AP75")]
    assert got == pytest.approx(expected, abs=5e-4)
    assert f"{100 * got[0]:.1f}" in capsys.readouterr().out


def test_eval_of_a_run_repeats_its_scores(run_folder, tmp_path, capsys):
    before = json.loads((run_folder / "inference/some/coco_results.json").read_text())
    assert set(before) == {"bbox", "segm"} and 0 < before["segm"]["AP"] < 1
    command = ["eval", str(run_folder), "--output", str(tmp_path), "--backend", "pycocotools"]
    assert main(command) == 0
    after = json.loads((tmp_path / "coco_results.json").read_text())
    for kind, scores in before.items():
        numbers = {name: value for name, value in scores.items() if name != "backend"}
        assert {n: after[kind][n] for n in numbers} == pytest.approx(numbers, abs=1e-9)
    assert "some: 30 images" in capsys.readouterr().out


def test_eval_asks_for_the_data_set_that_it_cannot_know(results, tmp_path, capsys):
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert main(["eval", str(tmp_path / "results.json")]) == 1
    assert "--test-json" in capsys.readouterr().err


def test_eval_takes_the_data_set_of_a_config(run_folder, photos, results, tmp_path, capsys):
    (tmp_path / "results.json").write_text(json.dumps(results))
    names = f"('coco:{run_folder / 'some.json'}:{photos[1]}',)"
    command = ["eval", str(tmp_path / "results.json"), "--eval", "segm", "DATASETS.TEST", names]
    assert main(command) == 0
    assert "segm" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ('{"annotations": []}', "is an annotation file"),
        ("[1]", "does not hold COCO results"),
        ('[{"image_id": 1}]', "have none of bbox"),
    ],
)
def test_files_that_are_no_results_are_refused(text, message, run_folder, tmp_path, capsys):
    (tmp_path / "results.json").write_text(text)
    command = ["eval", str(tmp_path / "results.json"), "--test-json", str(run_folder / "some.json")]
    assert main(command) == 1
    assert message in capsys.readouterr().err


def test_kinds_that_are_not_there_and_empty_folders_are_refused(run_folder, tmp_path, capsys):
    assert main(["eval", str(run_folder), "--eval", "keypoints"]) == 1
    assert "no keypoints results" in capsys.readouterr().err
    assert main(["eval", str(tmp_path)]) == 1
    assert "neither results" in capsys.readouterr().err


@pytest.mark.parametrize("threshold", ["0", "2"])
def test_show_draws_what_was_annotated_beside_what_was_found(
    threshold, run_folder, photos, tmp_path, capsys
):
    command = ["show", str(run_folder), "--output", str(tmp_path), "--first", "3"]
    assert main([*command, "--image-ext", "png", "--threshold", threshold]) == 0
    assert "3 pictures" in capsys.readouterr().out
    entries = photos[0]["images"][:3]
    for entry in entries:
        name, width, height = entry["file_name"], entry["width"], entry["height"]
        picture = np.asarray(Image.open(tmp_path / f"{name[:-4]}.png"))
        assert picture.shape == (height + 8, 2 * width + 12, 3)
        original = read_image(photos[1] / name)
        left, right = picture[4:-4, 4 : 4 + width], picture[4:-4, 8 + width : 8 + 2 * width]
        assert (left != original).any()
        assert (right != original).any() == (threshold == "0")  # no score reaches 2


def test_show_puts_the_worst_images_first(run_folder, photos, results, tmp_path):
    command = ["show", str(run_folder), "--output", str(tmp_path), "--worst", "--threshold", "0"]
    assert main([*command, "--image-ext", "png", "--first", "3"]) == 0
    names = sorted(path.stem for path in tmp_path.glob("*.png"))
    assert [name[:3] for name in names] == ["1_0", "2_0", "3_0"]
    # every mask that is found is exact, so that mistakes are the objects that are not found
    objects, found = (
        np.array([entry["image_id"] for entry in part if not entry.get("iscrowd")])
        for part in (photos[0]["annotations"], results)
    )
    lost = {
        i["file_name"][:-4]: (objects == i["id"]).sum() - (found == i["id"]).sum()
        for i in photos[0]["images"]
    }
    assert [lost[name[2:]] for name in names] == sorted(lost.values(), reverse=True)[:3]


def test_show_needs_the_images(run_folder, tmp_path, capsys):
    results = run_folder / "inference" / "some" / "segm.json"
    (tmp_path / "segm.json").write_text(results.read_text())
    command = ["show", str(tmp_path / "segm.json"), "--test-json", str(run_folder / "some.json")]
    assert main([*command, "--output", str(tmp_path / "pictures")]) == 1
    assert "--test-images" in capsys.readouterr().err


def test_report_holds_every_image_and_asks_for_nothing(run_folder, tmp_path, capsys):
    path = tmp_path / "report.html"
    assert main(["report", str(run_folder), "-o", str(path)]) == 0
    assert "MB" in capsys.readouterr().out
    page = path.read_text(encoding="utf-8")
    assert page.count("<script") == 3 and "://" not in page.split('id="data"')[0]
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    gallery = data["gallery"]
    assert len(gallery["items"]) == 30 and min(gallery["thumbnails"]) > 1000
    assert set(data["kinds"]) == {"bbox", "segm"}
    before = json.loads((run_folder / "inference/some/coco_results.json").read_text())
    for kind, measured in data["kinds"].items():
        assert measured["metrics"]["AP"] == pytest.approx(before[kind]["AP"], abs=1e-6)
        assert measured["errors"]["ap"] == pytest.approx(before[kind]["AP50"], abs=1e-9)


def test_report_without_images_has_no_thumbnails(run_folder, tmp_path):
    results = run_folder / "inference" / "some" / "bbox.json"
    (tmp_path / "bbox.json").write_text(results.read_text())
    path = tmp_path / "report.html"
    command = ["report", str(tmp_path / "bbox.json"), "--test-json", str(run_folder / "some.json")]
    assert main([*command, "-o", str(path)]) == 0
    assert path.stat().st_size < 4e5
