"""VIA files of both versions and all shapes."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from maskrcnn_lib.data.converters.via import convert_via
from maskrcnn_lib.data.datasets import COCODataset

POLYGON = {"name": "polygon", "all_points_x": [5, 15, 15, 5], "all_points_y": [5, 5, 15, 15]}


def region(shape, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


@pytest.fixture
def write(tmp_path):
    def write(regions, **more):
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "a.jpg")
        content = {"a.jpg123": {"filename": "a.jpg", "size": 123, "regions": regions, **more}}
        (tmp_path / "via.json").write_text(json.dumps(content))
        return tmp_path / "via.json"

    return write


@pytest.mark.parametrize("regions", [[region(POLYGON)], {"0": region(POLYGON)}])
def test_both_versions_give_the_polygon(write, regions):
    converted = convert_via(write(regions), default_class="balloon")
    (annotation,) = converted.content["annotations"]
    assert annotation["segmentation"] == [[5, 5, 15, 5, 15, 15, 5, 15]]
    assert annotation["bbox"] == [5, 5, 10, 10]
    assert converted.content["categories"] == [{"id": 1, "name": "balloon"}]
    (image,) = converted.content["images"]
    assert (image["width"], image["height"], image["file_name"]) == (50, 40, "a.jpg")
    assert len(COCODataset(converted.content, converted.image_root).target(0)) == 1


@pytest.mark.parametrize("link", ["image", "directory"])
def test_linked_images_count_as_lying_in_the_directory(write, tmp_path, link):
    path = write([region(POLYGON)])
    linked = tmp_path / "linked"
    if link == "image":
        linked.mkdir()
        (linked / "a.jpg").symlink_to(tmp_path / "a.jpg")
    else:
        linked.symlink_to(tmp_path)
    converted = convert_via(path, image_dir=linked)
    assert [image["file_name"] for image in converted.content["images"]] == ["a.jpg"]
    assert not converted.report.counts()


def test_image_outside_the_directory_is_reported(write, tmp_path):
    (tmp_path / "inner").mkdir()
    path = write([region(POLYGON)])
    path.write_text(path.read_text().replace('"filename": "a.jpg"', '"filename": "../a.jpg"'))
    converted = convert_via(path, image_dir=tmp_path / "inner")
    assert not converted.content["images"]
    assert "outside" in converted.report.table()


def test_project_file_is_unwrapped(write):
    path = write([region(POLYGON)])
    path.write_text(json.dumps({"_via_img_metadata": json.loads(path.read_text())}))
    assert len(convert_via(path).content["annotations"]) == 1


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ({"name": "rect", "x": 5, "y": 6, "width": 10, "height": 12}, 120),
        ({"name": "circle", "cx": 20, "cy": 20, "r": 10}, math.pi * 100),
        ({"name": "ellipse", "cx": 20, "cy": 20, "rx": 15, "ry": 5, "theta": 0.5}, math.pi * 75),
        ({**POLYGON, "name": "polyline"}, 100),
    ],
)
def test_shapes_become_polygons_of_their_area(write, shape, area):
    converted = convert_via(write([region(shape)]))
    masks = COCODataset(converted.content, converted.image_root).target(0).get_field("masks")
    # pixels on the outline count or not; a polygon of 64 points loses 0.2 %
    assert int(masks.get_mask_tensor().sum()) == pytest.approx(area, rel=0.07)


def test_turned_ellipse_reaches_as_far_as_computed(write):
    shape = {"name": "ellipse", "cx": 20, "cy": 20, "rx": 15, "ry": 5, "theta": math.pi / 2}
    (annotation,) = convert_via(write([region(shape)])).content["annotations"]
    assert annotation["bbox"] == pytest.approx([15, 5, 10, 30], abs=0.01)


def test_points_and_damaged_regions_are_counted(write):
    wrong = {"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1]}
    point = {"name": "point", "cx": 1, "cy": 2}
    converted = convert_via(write([region(point), region(wrong), "x", region(POLYGON)]))
    assert len(converted.content["annotations"]) == 1
    assert converted.report.counts() == {
        ("dropped", "region that cannot be read"): 2,
        ("dropped", "region of shape 'point', which has no area"): 1,
    }


@pytest.mark.parametrize("value", ["cat", " cat ", {"cat": True, "dog": False}])
def test_class_is_the_only_attribute(write, value):
    converted = convert_via(write([region(POLYGON, kind=value), region(POLYGON)]))
    names = {c["id"]: c["name"] for c in converted.content["categories"]}
    assert [names[a["category_id"]] for a in converted.content["annotations"]] == ["cat", "object"]


def test_several_attributes_need_a_choice(write):
    path = write([region(POLYGON, kind="cat", colour="red")])
    with pytest.raises(ValueError, match=r"colour, kind; name the one.*--class-attribute"):
        convert_via(path)
    converted = convert_via(path, class_attribute="colour")
    assert converted.content["categories"] == [{"id": 1, "name": "red"}]


def test_missing_image_and_other_files_are_errors(write, tmp_path):
    path = write([region(POLYGON)], filename="b.jpg")
    with pytest.raises(FileNotFoundError, match=r"'b\.jpg'.*--images"):
        convert_via(path)
    path.write_text(json.dumps({"images": [], "annotations": []}))
    with pytest.raises(ValueError, match="not a VIA file"):
        convert_via(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        convert_via(path)
