"""LabelMe files: shapes, groups, masks."""

import base64
import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from maskrcnn_lib.data.converters.labelme import convert_labelme
from maskrcnn_lib.data.datasets import COCODataset

SQUARE = [[5, 5], [15, 5], [15, 15], [5, 15]]


def shape(points, label="cat", kind="polygon", group=None, **more):
    return {"label": label, "points": points, "shape_type": kind, "group_id": group, **more}


def png(bitmap):
    file = io.BytesIO()
    Image.fromarray(bitmap.astype(np.uint8) * 255).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture
def write(tmp_path):
    def write(shapes, path="a.json", image="a.png"):
        target = tmp_path / path
        target.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "a.png")
        target.write_text(json.dumps({"shapes": shapes, "imagePath": image, "imageData": None}))
        return tmp_path

    return write


def masks(converted):
    dataset = COCODataset(converted.content, converted.image_root)
    return dataset.target(0).get_field("masks").get_mask_tensor()


@pytest.mark.parametrize(
    ("given", "area"),
    [
        (shape(SQUARE), 100),
        (shape([[15, 15], [5, 3]], kind="rectangle"), 120),
        (shape([[20, 20], [20, 30]], kind="circle"), math.pi * 100),
        (shape([[5, 5], [7, 8]], kind="mask", mask=png(np.ones((4, 3)))), 12),
    ],
)
def test_shapes_cover_their_area(write, given, area):
    assert int(masks(convert_labelme(write([given]))).sum()) == pytest.approx(area, rel=0.07)


def test_parts_of_a_group_are_one_object(write):
    far = [[30, 20], [40, 20], [40, 30]]
    shapes = [shape(SQUARE, group=1), shape(far, group=1), shape(SQUARE, "dog", group=1)]
    converted = convert_labelme(write([*shapes, shape(far)]))
    assert [len(a["segmentation"]) for a in converted.content["annotations"]] == [2, 1, 1]
    assert [c["name"] for c in converted.content["categories"]] == ["cat", "dog"]


def test_mask_and_polygon_of_a_group_are_united(write):
    mask = shape([[10, 10], [19, 19]], kind="mask", group=1, mask=png(np.ones((10, 10))))
    (pixels,) = masks(convert_labelme(write([shape(SQUARE, group=1), mask])))
    assert int(pixels.sum()) == 100 + 100 - 25
    assert pixels[10:20, 10:20].all()


def test_mask_that_reaches_out_of_the_image_is_cut_off(write):
    mask = shape([[-3, 35], [6, 44]], kind="mask", mask=png(np.ones((10, 10))))
    (pixels,) = masks(convert_labelme(write([mask])))
    assert int(pixels.sum()) == int(pixels[35:, :7].sum()) == 35


@pytest.mark.parametrize("corner", [(60, 5), (5, 50), (-20, 5)])
def test_mask_outside_the_image_is_dropped_and_counted(write, corner):
    x, y = corner
    mask = shape([[x, y], [x + 14, y + 14]], kind="mask", mask=png(np.ones((15, 15))))
    converted = convert_labelme(write([shape(SQUARE), mask]))
    dataset = COCODataset(converted.content, converted.image_root)
    assert len(dataset.target(0)) == 1
    assert dataset.report.counts()["dropped", "mask without a pixel"] == 1


def test_lines_and_damaged_shapes_are_counted(write):
    shapes = [
        shape(SQUARE),
        shape([[1, 1], [2, 2]], kind="line"),
        shape([[1], [2]]),
        shape([[math.nan, 1], [2, 2], [3, 4]]),
        shape([[1, 1], [2, 2]], kind="mask", mask="!!"),
        {"label": "cat"},
        "x",
        shape(SQUARE, label=""),
    ]
    converted = convert_labelme(write(shapes))
    assert len(converted.content["annotations"]) == 1
    assert converted.report.counts() == {
        ("dropped", "shape that cannot be read"): 5,
        ("dropped", "object without a class name"): 1,
        ("dropped", "shape of type 'line', which has no area"): 1,
    }


def test_image_in_another_directory_is_found(write):
    root = write([shape(SQUARE)], path="labels/a.json", image="..\\a.png")
    with pytest.raises(FileNotFoundError, match="--images"):
        convert_labelme(root / "labels")
    (image,) = convert_labelme(root / "labels", image_dir=root).content["images"]
    assert image == {"id": 1, "file_name": "a.png", "width": 50, "height": 40}
    assert convert_labelme(root).content["images"] == [image]


def test_other_files_are_errors(write, tmp_path):
    root = write([])
    (root / "b.json").write_text("[]")
    with pytest.raises(ValueError, match=r"b\.json is not a LabelMe file"):
        convert_labelme(root)
    with pytest.raises(FileNotFoundError, match="no JSON"):
        convert_labelme(tmp_path / "nowhere")
