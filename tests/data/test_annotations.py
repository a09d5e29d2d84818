"""Validation of COCO annotations: what is repaired, dropped, refused and noted."""

import copy
import csv
import pickle

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from maskrcnn_lib.data.annotation_masks import check_segmentation
from maskrcnn_lib.data.annotation_report import AnnotationError, AnnotationReport
from maskrcnn_lib.data.annotations import validate_coco

WIDTH, HEIGHT = 40, 30
SQUARE = [2.0, 2.0, 20.0, 2.0, 20.0, 20.0, 2.0, 20.0]
NAN, INF = float("nan"), float("inf")


def content(**annotation):
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 18, 18], "area": 324}
    entry |= {"iscrowd": 0, "segmentation": [SQUARE], **annotation}
    return {
        "images": [{"id": 1, "file_name": "1.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [entry],
    }


def validate(given, root=None):
    """The only annotation, or None; and the counts of what was found."""
    report = AnnotationReport("test")
    before = copy.deepcopy(given)
    valid = validate_coco(given, report, root)
    assert repr(given) == repr(before)  # NaN differs from itself
    entries = [entry for entries in valid.annotations.values() for entry in entries]
    return (entries[0] if entries else None), report.counts()


def test_good_annotation_stays_as_it_is():
    given = content()
    entry, counts = validate(given)
    assert entry == given["annotations"][0]
    assert counts == {}


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"image_id": 2}, "annotation of an image that the file does not list"),
        ({"image_id": None}, "annotation of an image that the file does not list"),
        ({"category_id": [1]}, "annotation of a category that the file does not list"),
        ({"iscrowd": "maybe"}, "iscrowd that is neither 0 nor 1"),
        ({"bbox": [50, 2, 5, 5]}, "object whose box lies outside the image"),
        (
            {"bbox": [2, 2, 0, 5], "segmentation": []},
            "object without a box of four numbers and some area",
        ),
    ],
)
def test_unusable_object_is_dropped(change, kind):
    entry, counts = validate(content(**change))
    assert entry is None
    assert ("dropped", kind) in counts


@pytest.mark.parametrize(
    ("segmentation", "kind"),
    [
        ([[1, 1, 9, 9, NAN, 5]], "polygon with a coordinate that is not finite"),
        ([[1, 1, 9, 9, -INF, 5]], "polygon with a coordinate that is not finite"),
        ([[1, 1, 9, 9, 5, 2e5]], "polygon with a coordinate beyond 100000 pixels"),
        ([[1, 1, 9, 9, 5, 10**400]], "polygon with a coordinate beyond 100000 pixels"),
        ([[1.5, 1, 9, 9, 5, None]], "polygon that is not a list of numbers"),
        ([[1, 1, 9, 9, 5]], "polygon with an odd number of coordinates"),
        ([[1, 1, 9, 9]], "polygon with fewer than three points"),
        ([[1, 1, 5, 5, 9, 9]], "polygon without area"),
        ([[4, 4, 4, 4, 4, 4]], "polygon without area"),
        ([["1", "1", "9", "1", "9", "9"]], "polygon that is not a list of numbers"),
        ([[-9, -9, -1, -9, -1, -1]], "mask outside the image"),
        ({"size": [HEIGHT, WIDTH], "counts": [7]}, "RLE that does not fit its image"),
        ({"size": [WIDTH, HEIGHT], "counts": [0, 1200]}, "RLE that does not fit its image"),
        ({"counts": [0, 1200]}, "RLE that does not fit its image"),
        ({"size": [HEIGHT, WIDTH], "counts": [1200]}, "mask without a pixel"),
        ("polygon", "mask that is neither polygons nor RLE"),
    ],
)
def test_unusable_mask_is_dropped_and_the_box_kept(segmentation, kind):
    entry, counts = validate(content(segmentation=segmentation))
    assert entry["bbox"] == [2, 2, 18, 18] and "segmentation" not in entry
    assert ("dropped", kind) in counts


def test_good_polygons_of_an_object_survive_bad_ones():
    entry, counts = validate(content(segmentation=[SQUARE, [1, 1, NAN, 2, 3, 3]]))
    assert entry["segmentation"] == [SQUARE]
    assert counts == {("dropped", "polygon with a coordinate that is not finite"): 1}


@pytest.mark.parametrize(
    "segmentation", [SQUARE, [list(pair) for pair in zip(SQUARE[::2], SQUARE[1::2], strict=True)]]
)
def test_polygon_in_another_nesting_is_repaired(segmentation):
    entry, counts = validate(content(segmentation=segmentation))
    assert entry["segmentation"] == [SQUARE]
    assert [action for action, _ in counts] == ["repaired"]


def test_figure_of_eight_has_area_although_its_signed_area_is_zero():
    entry, counts = validate(content(segmentation=[[2, 2, 20, 20, 20, 2, 2, 20]]))
    assert "segmentation" in entry
    assert counts == {}


@pytest.mark.parametrize(
    "box", [None, [2, 2, 18], [2, 2, NAN, 18], [2, 2, 18, 0], "box", [1e300] * 4]
)
def test_unusable_box_is_taken_from_the_mask(box):
    entry, counts = validate(content(bbox=box))
    assert entry["bbox"] == [2, 2, 18, 18]
    assert counts == {("repaired", "box taken from the mask"): 1}


def test_box_that_reaches_out_is_clipped_and_reported_beyond_a_pixel():
    entry, counts = validate(content(bbox=[-4, 2, 60, 18], segmentation=None))
    assert entry["bbox"] == [0, 2, WIDTH, 18]
    assert counts == {("repaired", "box clipped to the image"): 1}
    entry, counts = validate(content(bbox=[2, 2, 38.5, 18], segmentation=None))
    assert entry["bbox"] == [2, 2, 38.5, 18]
    assert counts == {}


def test_corners_written_as_box_are_noted():
    _, counts = validate(content(bbox=[21, 21, 39, 29], segmentation=[SQUARE]))
    kind = "box that does not fit its mask (it has to be x, y, width, height)"
    assert ("noted", kind) in counts


@pytest.mark.parametrize("area", [0, -3, NAN, "1"])
def test_area_is_computed_from_the_mask(area):
    entry, counts = validate(content(area=area))
    assert entry["area"] == 18 * 18
    assert counts == {("repaired", "area computed"): 1}
    entry, counts = validate(content(area=None))
    assert (entry["area"], counts) == (18 * 18, {})


def test_ids_as_text_are_understood():
    given = content(image_id="1", category_id=1.0, id="1")
    given["images"][0]["id"] = "1"
    entry, counts = validate(given)
    assert (entry["id"], entry["image_id"], entry["category_id"]) == (1, 1, 1)
    assert counts == {}


@pytest.mark.parametrize("number", [0, None, "one", 1])
def test_annotation_without_an_id_of_its_own_gets_one(number):
    given = content()
    given["annotations"].append({**given["annotations"][0], "id": number, "bbox": [3, 3, 17, 17]})
    report = AnnotationReport("test")
    entries = validate_coco(given, report).annotations[1]
    assert [entry["id"] for entry in entries] == [1, 2]
    assert report.count("repaired") == 1


def test_annotation_listed_twice_counts_once():
    given = content()
    given["annotations"] *= 2
    report = AnnotationReport("test")
    assert len(validate_coco(given, report).annotations[1]) == 1
    assert report.counts() == {("dropped", "annotation listed twice"): 1}


def test_keypoints_are_checked_and_counted():
    points = [5, 5, 2, 6, 6, 1, 0, 0, 0]
    entry, counts = validate(content(keypoints=points, num_keypoints=3))
    assert entry["num_keypoints"] == 2
    assert counts == {("repaired", "num_keypoints counted"): 1}
    entry, counts = validate(content(keypoints=[5, 5, 2, 99, 6, 1], num_keypoints=2))
    assert entry["keypoints"] == [5, 5, 2, 0, 0, 0]
    for wrong in ([5, 5], [5, 5, 3], [NAN, 5, 2], "no"):
        entry, counts = validate(content(keypoints=wrong))
        assert "keypoints" not in entry
        assert [action for action, _ in counts] == ["dropped"]


def test_file_of_images_to_be_scored_elsewhere_needs_no_annotations():
    given = content()
    del given["annotations"]
    entry, counts = validate(given)
    assert (entry, counts) == (None, {("noted", "no annotations"): 1})


@pytest.mark.parametrize(("given", "meant"), [(None, 0), ("0", 0), ("1", 1), (True, 1), (0.0, 0)])
def test_iscrowd_is_read_as_it_is_meant(given, meant):
    entry, counts = validate(content(iscrowd=given))
    assert entry["iscrowd"] == meant and not counts


def test_suspicious_content_is_noted():
    _, counts = validate(content(bbox=[0.1, 0.2, 0.5, 0.5], segmentation=[]))
    assert [kind[:26] for action, kind in counts if action == "noted"] == [
        "box within the first pixel"
    ]
    given = content()
    given["images"].append({**given["images"][0], "id": 2})
    given["categories"] += [{"id": 2, "name": " Cat"}, {"id": 3, "name": 3}]
    _, counts = validate(given)
    assert counts == {
        ("repaired", "category name that was a number"): 1,
        ("noted", "category name like another one but for its case or spaces"): 1,
        ("noted", "image file listed under several ids"): 1,
    }


@pytest.mark.parametrize(
    ("path", "value", "kind"),
    [
        (("images",), {}, "no list of images"),
        (("annotations",), None, "no list of annotations"),
        (("categories",), [], "no category at all"),
        (("categories", 0, "id"), "x", "category without a whole number as id"),
        (("images", 0, "id"), None, "image without a whole number as id"),
        (("images", 0), "1.png", "image without a whole number as id"),
        (("images", 0, "file_name"), 7, "image without a usable file_name"),
        (("images", 0, "file_name"), "a\0.png", "image without a usable file_name"),
        (("images", 0, "file_name"), "\ud800.png", "image without a usable file_name"),
        (("images", 0, "file_name"), "a/../../b", "file_name leads out of the image directory"),
        (("images", 0, "width"), 10**6, "image of more than"),
        (("images", 0, "height"), -1, "image without width and height"),
    ],
)
def test_file_that_cannot_be_used_is_refused_with_the_reason(path, value, kind):
    given = content()
    if path == ("images", 0, "width"):
        given["images"][0]["height"] = 10**6
    node = given
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with pytest.raises(AnnotationError, match=f"test cannot be used:\n.*{kind}"):
        validate(given)


def test_all_refusals_are_in_the_report_and_the_first_in_the_message():
    given = content()
    given["images"] = [{"id": i, "file_name": ""} for i in range(20)]
    with pytest.raises(AnnotationError, match="and 15 more") as caught:
        validate(given)
    assert caught.value.report.count("refused") == 20
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_image_id_used_twice_is_refused_unless_the_entries_are_equal():
    given = content()
    given["images"] *= 2
    _, counts = validate(given)
    assert counts == {("dropped", "image listed twice"): 1}
    given["images"][1] = {**given["images"][0], "file_name": "2.png"}
    with pytest.raises(AnnotationError, match="image id used twice"):
        validate(given)


def test_missing_size_is_read_from_the_image_upright(tmp_path):
    given = content()
    del given["images"][0]["width"]
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (HEIGHT, WIDTH)).save(tmp_path / "1.png", exif=exif)
    report = AnnotationReport("test")
    image = validate_coco(given, report, tmp_path).images[0]
    assert (image["width"], image["height"]) == (WIDTH, HEIGHT)
    assert report.counts() == {("repaired", "size read from the image file"): 1}


def test_names_of_other_systems_become_relative_with_slashes(tmp_path):
    given = content()
    for name, expected in ((str(tmp_path / "a" / "1.png"), "a/1.png"), ("a\\1.png", "a/1.png")):
        given["images"][0]["file_name"] = name
        report = AnnotationReport("test")
        assert validate_coco(given, report, tmp_path).images[0]["file_name"] == expected
        assert report.count("repaired") == 1


def test_lvis_names_come_from_the_address():
    given = content()
    given["images"][0]["coco_url"] = "http://images.cocodataset.org/train2017/000000391895.jpg"
    del given["images"][0]["file_name"]
    image = validate_coco(given, AnnotationReport("test")).images[0]
    assert image["file_name"] == "train2017/000000391895.jpg"


@pytest.mark.parametrize("seed", range(30))
def test_box_and_area_of_run_lengths_agree_with_pycocotools(seed):
    generator = np.random.default_rng(seed)
    bitmap = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    for _ in range(generator.integers(1, 4)):
        y, x = generator.integers(0, (HEIGHT, WIDTH))
        bitmap[y : y + generator.integers(1, 31), x : x + generator.integers(1, 12)] = 1
    rle = coco_mask.encode(bitmap)
    mask = check_segmentation({**rle, "counts": rle["counts"].decode()}, (WIDTH, HEIGHT), print)
    assert mask.area() == coco_mask.area(rle)
    assert list(mask.box) == coco_mask.toBbox(rle).tolist()


def test_report_lists_every_finding(tmp_path):
    report = AnnotationReport("test")
    report.add("dropped", "kind, with comma", "annotation 1", "x")
    report.add("dropped", "kind, with comma", "annotation 2")
    report.add("refused", "other", "image 1")
    assert list(report.counts().items()) == [
        (("refused", "other"), 1),
        (("dropped", "kind, with comma"), 2),
    ]
    report.write(tmp_path / "report.csv")
    with (tmp_path / "report.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["action", "kind", "where", "detail"]
    assert rows[1:] == [list(finding) for finding in report.findings]
    assert "first: annotation 1: x" in report.table()
