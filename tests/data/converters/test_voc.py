"""Pascal VOC's layout, through the converter and as a data set."""

import numpy as np
import pytest
from PIL import Image

from maskrcnn_lib.data.converters.content import read_xml
from maskrcnn_lib.data.converters.voc import CLASSES, convert_voc
from maskrcnn_lib.data.datasets import PascalVOCDataset

WIDTH, HEIGHT = 40, 30


def xml(objects, name="0.jpg", size=(WIDTH, HEIGHT)):
    parts = ""
    for label, difficult, box in objects:
        corners = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        parts += f"<object><name>{label}</name><difficult>{difficult}</difficult><bndbox>"
        parts += "".join(f"<{key}>{value}</{key}>" for key, value in corners)
        parts += "</bndbox><part><name>head</name></part></object>"
    shape = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    return f"<annotation><filename>{name}</filename>{shape}{parts}</annotation>"


@pytest.fixture
def devkit(tmp_path):
    """Images a (a dog, a difficult cat; with instances) and b (none); lists train and val."""
    for folder in ("Annotations", "JPEGImages", "SegmentationObject", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    objects = [("dog", 0, (1, 1, 10, 20)), ("cat", 1, (11, 6, WIDTH, HEIGHT))]
    (tmp_path / "Annotations" / "a.xml").write_text(xml(objects))
    (tmp_path / "Annotations" / "b.xml").write_text(xml([]))
    for stem in "ab":
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "JPEGImages" / f"{stem}.jpg")
    instances = np.zeros((HEIGHT, WIDTH), np.uint8)
    instances[0:20, 0:10], instances[6:30, 12:40], instances[5, 11:] = 1, 2, 255
    picture = Image.fromarray(instances, mode="P")
    picture.putpalette(list(range(256)) * 3)
    picture.save(tmp_path / "SegmentationObject" / "a.png")
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n")
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("b  1\n")
    return tmp_path


def test_boxes_count_from_one_and_include_the_last_pixel(devkit):
    dataset = PascalVOCDataset(devkit, "train", use_difficult=True)
    image, target, _ = dataset[0]
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert target.bbox.tolist() == [[0, 0, 10, 20], [10, 5, WIDTH, HEIGHT]]
    names = [dataset.class_names[label] for label in target.get_field("labels").tolist()]
    assert names == ["dog", "cat"]
    assert target.get_field("difficult").tolist() == [False, True]
    assert dataset.class_names == list(PascalVOCDataset.CLASSES)
    assert len(dataset.class_names) == 21


def test_masks_are_the_instances_in_the_order_of_the_boxes(devkit):
    dataset = PascalVOCDataset(devkit, "train", use_difficult=True)
    masks = dataset.target(0).get_field("masks").get_mask_tensor()
    assert masks.sum((1, 2)).tolist() == [200, 24 * 28]
    assert masks[0, :20, :10].all() and masks[1, 6:, 12:].all()


def test_difficult_objects_are_left_out_on_demand_with_the_right_masks(devkit):
    (devkit / "Annotations" / "a.xml").write_text(
        xml([("dog", 1, (1, 1, 10, 20)), ("cat", 0, (11, 6, WIDTH, HEIGHT))])
    )
    target = PascalVOCDataset(devkit, "train").target(0)
    assert target.bbox.tolist() == [[10, 5, WIDTH, HEIGHT]]
    assert int(target.get_field("masks").get_mask_tensor().sum()) == 24 * 28


def test_split_chooses_the_images(devkit):
    assert len(PascalVOCDataset(devkit, "train")) == 2
    assert len(PascalVOCDataset(devkit, "train", remove_images_without_annotations=True)) == 1
    dataset = PascalVOCDataset(devkit, "val")
    assert [dataset.get_img_info(i)["file_name"] for i in range(len(dataset))] == ["b.jpg"]
    with pytest.raises(FileNotFoundError, match=r"test\.txt.*train, val"):
        PascalVOCDataset(devkit, "test")


def test_other_classes_are_those_of_the_whole_directory(devkit):
    (devkit / "Annotations" / "a.xml").write_text(xml([("zebra", 0, (1, 1, 10, 20))]))
    (devkit / "Annotations" / "c.xml").write_text(xml([("ant", 0, (1, 1, 10, 20))]))
    dataset = PascalVOCDataset(devkit, "train")
    assert dataset.class_names == ["__background__", "ant", "zebra"]
    assert dataset.target(0).get_field("labels").tolist() == [2]


def test_files_side_by_side_and_missing_sizes_are_read(tmp_path):
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "photo.PNG")
    (tmp_path / "photo.xml").write_text(xml([("cat", 0, ("1.0", 1, "9.6", 20))], size=(0, 0)))
    converted = convert_voc(tmp_path)
    assert converted.content["images"] == [{"id": 1, "file_name": "photo.PNG"}]
    (annotation,) = converted.content["annotations"]
    assert annotation["bbox"] == [0, 0, pytest.approx(9.6), 20]
    assert [c["name"] for c in converted.content["categories"]] == list(CLASSES)


def test_wanted_classes_leave_out_the_others(devkit):
    converted = convert_voc(devkit, "train", class_names=["cat"])
    assert [a["category_id"] for a in converted.content["annotations"]] == [1]
    assert converted.report.counts() == {("dropped", "object of a class that is not wanted"): 1}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused_before_they_expand(tmp_path, encoding):
    bomb = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]><annotation>&y;</annotation>'
    header = f'<?xml version="1.0" encoding="{encoding}"?>'
    path = tmp_path / "a.xml"
    path.write_bytes((header + bomb).encode(encoding))
    with pytest.raises(ValueError, match=r"a\.xml has a document type declaration"):
        read_xml(path)


@pytest.mark.parametrize("text", ["", "<annotation>", "no xml", "<a></b>", "\0"])
def test_broken_xml_is_an_error_that_names_the_file(tmp_path, text):
    (tmp_path / "broken.xml").write_text(text)
    with pytest.raises(ValueError, match=r"broken\.xml is not XML"):
        convert_voc(tmp_path)


def test_object_without_box_is_left_out_and_counted(devkit):
    text = xml([("dog", 0, (1, 1, 10, 20))]).replace("<xmax>10</xmax>", "<xmax>wide</xmax>")
    (devkit / "Annotations" / "a.xml").write_text(text)
    (devkit / "SegmentationObject" / "a.png").unlink()
    dataset = PascalVOCDataset(devkit, "train")
    assert len(dataset.target(0)) == 0
    assert dataset.report.count("dropped") == 1
