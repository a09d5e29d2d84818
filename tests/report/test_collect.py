"""Where results, data sets and records are looked for."""

import json
import shutil

import pytest

from maskrcnn_lib.report.collect import collect, read_results, with_keypoints


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


BOX = {"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4]}
MASK = {"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": [[1, 2, 3, 4, 5, 6]]}
POINTS = {"image_id": 1, "category_id": 1, "score": 0.5, "keypoints": [1, 2, 1]}


def test_kind_is_told_by_the_name_or_else_by_the_content(tmp_path):
    both = _write(tmp_path / "mine.json", [{**BOX, **MASK}])
    assert set(read_results([both])) == {"bbox", "segm"}
    named = _write(tmp_path / "segm.json", [{**BOX, **MASK}])
    assert set(read_results([named])) == {"segm"}
    empty = _write(tmp_path / "keypoints.json", [])
    assert read_results([named, empty]).keys() == {"segm", "keypoints"}


def test_files_with_the_same_image_and_files_of_no_kind_are_refused(tmp_path):
    files = [_write(tmp_path / name, [BOX]) for name in ("a.json", "b.json")]
    with pytest.raises(ValueError, match=r"b\.json: bbox results of 1 images, such as 1,"):
        read_results(files)
    with pytest.raises(ValueError, match="no results"):
        read_results([_write(tmp_path / "empty.json", [])])
    with pytest.raises(FileNotFoundError, match=r"no results file at .*none\.json"):
        read_results([tmp_path / "none.json"])


def test_files_of_different_images_are_joined(tmp_path):
    other = {**BOX, "image_id": 2}
    files = [_write(tmp_path / f"{i}.json", [entry]) for i, entry in enumerate((BOX, other))]
    assert read_results(files) == {"bbox": [BOX, other]}


def _part(folder, start, end, count=40):
    images = [{**BOX, "image_id": image} for image in range(start, end)]
    _write(folder / "bbox.json", images)
    _write(folder / "range.json", {"start": start, "end": end, "images": count})
    return folder


def test_parts_are_put_together_in_the_order_of_their_images(run_folder, tmp_path):
    late, early = _part(tmp_path / "b", 25, 40), _part(tmp_path / "a", 0, 25)
    run = collect([late, early], annotations=run_folder / "val.json")
    assert [entry["image_id"] for entry in run.results["bbox"]] == list(range(40))
    folder = tmp_path / "out" / "val"
    for name, range_ in (("range_0000000_0000025", (0, 25)), ("range_0000025_0000040", (25, 40))):
        _part(folder / name, *range_)
    for place in (folder, folder.parent):
        run = collect([place], annotations=run_folder / "val.json")
        assert len(run.results["bbox"]) == 40


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([(0, 25)], "images 25 to 40 are in no part"),
        ([(0, 10), (20, 40)], "images 10 to 20 are in no part"),
        ([(5, 40)], "images 0 to 5 are in no part"),
        ([(0, 25), (20, 40)], "images 20 to 25 are in two parts"),
        ([(0, 20), (20, 40, 41)], "data sets of 40 and 41 images"),
    ],
)
def test_parts_that_make_no_whole_are_refused(ranges, message, run_folder, tmp_path):
    parts = [_part(tmp_path / str(number), *part) for number, part in enumerate(ranges)]
    with pytest.raises(ValueError, match=message):
        collect(parts, annotations=run_folder / "val.json")


def test_directories_that_are_no_parts_are_not_put_together(run_folder, tmp_path):
    _write(tmp_path / "bbox.json", [BOX])
    with pytest.raises(ValueError, match="several directories have to be parts"):
        collect([_part(tmp_path / "0", 0, 40), tmp_path], annotations=run_folder / "val.json")


@pytest.mark.parametrize("part", ["", "inference", "inference/val"])
def test_run_its_folder_of_tests_and_one_of_them_give_the_same(run_folder, part):
    run = collect([run_folder / part])
    assert run.name == "val" and set(run.results) == {"bbox"}
    assert run.has_images and len(run.dataset) == 40
    assert run.records[-1] == {"iteration": 49, "val/bbox/AP": 0.3}


def test_of_several_data_sets_one_has_to_be_named(run_folder, tmp_path):
    for name in ("val", "other"):
        shutil.copytree(run_folder / "inference" / "val", tmp_path / name)
    with pytest.raises(ValueError, match="other, val"):
        collect([tmp_path])
    assert collect([tmp_path], dataset="other").name == "other"


def test_annotations_that_have_moved_are_asked_for(run_folder, tmp_path, caplog):
    _write(tmp_path / "bbox.json", [BOX])
    _write(tmp_path / "dataset.json", {"annotations": "gone.json", "images": "gone"})
    with pytest.raises(ValueError, match="--test-json"):
        collect([tmp_path])
    assert "gone.json, which is not there" in caplog.text
    run = collect([tmp_path], annotations=run_folder / "val.json")
    assert run.name == "val" and not run.has_images


def test_key_points_join_the_detections_that_they_were_written_for():
    joined = with_keypoints({"bbox": [BOX], "keypoints": [POINTS]}, "bbox")
    assert joined == [{**BOX, "keypoints": [1, 2, 1]}]
    others = [{**POINTS, "score": 0.4}]
    assert with_keypoints({"bbox": [BOX], "keypoints": others}, "bbox") == [BOX]
    assert with_keypoints({"bbox": [BOX]}, "bbox") == [BOX]
