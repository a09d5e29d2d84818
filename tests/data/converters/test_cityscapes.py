"""Cityscapes' files, through the converter and as a data set."""

import json

import numpy as np
import pytest
from PIL import Image

from maskrcnn_lib.data.converters.cityscapes import convert_cityscapes, split_instances
from maskrcnn_lib.data.datasets import CityScapesDataset, COCODataset

WIDTH, HEIGHT = 64, 32
CAR = [[10, 5], [30, 5], [30, 20], [10, 20]]


@pytest.fixture
def root(tmp_path):
    """Image 0: two cars, a group of persons, a caravan, road; image 1: road only."""
    images, annotations = (tmp_path / kind / "train" / "ulm" for kind in ("leftImg8bit", "gtFine"))
    images.mkdir(parents=True)
    annotations.mkdir(parents=True)
    ids = np.full((HEIGHT, WIDTH), 7, dtype=np.uint16)
    ids[5:20, 10:30] = 26000
    ids[8:12, 15:20] = 7  # a hole
    ids[10:30, 25:50] = 26001  # hides a part of the first
    ids[0:4, 40:60] = 24  # persons that are not told apart
    ids[25:30, 0:9] = 29000  # a caravan, which is not evaluated
    objects = [
        {"label": "road", "polygon": [[0, 0], [63, 0], [63, 31]]},
        {"label": "car", "polygon": CAR},
        {"label": "car", "polygon": [[25, 10], [50, 10], [50, 30], [25, 30]]},
        {"label": "persongroup", "polygon": [[40, 0], [60, 0], [60, 4], [40, 4]]},
        {"label": "caravan", "polygon": [[0, 25], [9, 25], [9, 30]]},
        {"label": "car", "polygon": CAR, "deleted": 1},
    ]
    for index, (numbers, shapes) in enumerate(
        [(ids, objects), (np.full_like(ids, 7), objects[:1])]
    ):
        start = f"ulm_00000{index}_000019"
        Image.new("RGB", (WIDTH, HEIGHT)).save(images / f"{start}_leftImg8bit.png")
        Image.fromarray(numbers).save(annotations / f"{start}_gtFine_instanceIds.png")
        content = {"imgWidth": WIDTH, "imgHeight": HEIGHT, "objects": shapes}
        (annotations / f"{start}_gtFine_polygons.json").write_text(json.dumps(content))
    return tmp_path


def dataset(root, **options):
    directories = root / "leftImg8bit" / "train", root / "gtFine" / "train"
    return CityScapesDataset(*directories, "train", **options)


def visible_pixels(root):
    path = root / "gtFine" / "train" / "ulm" / "ulm_000000_000019_gtFine_instanceIds.png"
    ids = np.array(Image.open(path))
    return np.stack([ids == 26000, ids == 26001])


def test_masks_are_the_visible_pixels_with_their_holes(root):
    image, target, _ = dataset(root)[0]
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert target.bbox.tolist() == [[10, 5, 30, 20], [25, 10, 50, 30]]
    assert target.get_field("labels").tolist() == [3, 3]
    masks = target.get_field("masks").get_mask_tensor().numpy()
    assert np.array_equal(masks, visible_pixels(root))


def test_polygons_are_as_drawn(root):
    target = dataset(root, mode="poly").target(0)
    assert target.bbox.tolist() == [[10, 5, 30, 20], [25, 10, 50, 30]]
    assert int(target.get_field("masks").get_mask_tensor()[0].sum()) == 20 * 15


@pytest.mark.parametrize("mode", ["mask", "poly"])
def test_groups_are_crowd_and_other_classes_left_out(root, mode):
    entries = dataset(root, mode=mode).annotations(0)
    assert [(e["category_id"], e["iscrowd"]) for e in entries if e["iscrowd"]] == [(24, 1)]
    assert len(entries) == 3


def test_empty_images_and_a_part_can_be_left_out(root):
    assert len(dataset(root)) == 2
    assert len(dataset(root)[1][1]) == 0
    assert len(dataset(root, remove_images_without_annotations=True)) == 1
    assert len(dataset(root, mini=1)) == 1


def test_eight_classes_are_in_the_order_of_their_ids(root):
    names = "person rider car truck bus train motorcycle bicycle".split()
    assert dataset(root).class_names == ["__background__", *names]
    info = dataset(root).get_img_info(1)
    name = "ulm/ulm_000001_000019_leftImg8bit.png"
    assert info == {"id": 1, "file_name": name, "width": WIDTH, "height": HEIGHT}


@pytest.mark.parametrize("mode", ["mask", "poly"])
def test_converted_file_gives_the_same_targets(root, mode):
    converted = convert_cityscapes(root, "train", mode=mode)
    coco = COCODataset(converted.content, converted.image_root)
    assert coco.report.findings == []
    native = dataset(root, mode=mode)
    assert coco.class_names == native.class_names
    for index in range(2):
        ours, theirs = coco.target(index), native.target(index)
        assert ours.bbox.equal(theirs.bbox)
        assert ours.get_field("labels").equal(theirs.get_field("labels"))
        masks = (t.get_field("masks").get_mask_tensor() for t in (ours, theirs))
        assert next(masks).equal(next(masks))
    content = COCODataset(native.content, converted.image_root)
    assert content.target(0).bbox.equal(native.target(0).bbox)


def test_instances_split_like_a_search_for_each_number():
    ids = np.random.default_rng(0).choice([0, 7, 24, 24000, 25001, 29000, 33000], (20, 30))
    found = {}
    for instance in split_instances(ids):
        whole = np.zeros(ids.shape, bool)
        (x, y), (height, width) = instance.corner, instance.crop.shape
        whole[y : y + height, x : x + width] = instance.crop
        found[instance.name, instance.is_crowd] = whole
    expected = {("person", True): 24, ("person", False): 24000}
    expected |= {("rider", False): 25001, ("bicycle", False): 33000}
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[key], ids == number) for key, number in expected.items())


def test_wrong_files_are_errors_that_name_them(root, tmp_path):
    annotations = root / "gtFine" / "train" / "ulm"
    with pytest.raises(ValueError, match="mode"):
        dataset(root, mode="box")
    (annotations / "ulm_000000_000019_gtFine_polygons.json").write_text('{"objects": [7]}')
    with pytest.raises(ValueError, match=r"ulm_000000.*no polygons in Cityscapes' form"):
        dataset(root, mode="poly").target(0)
    Image.new("RGB", (4, 4)).save(annotations / "ulm_000000_000019_gtFine_instanceIds.png")
    with pytest.raises(ValueError, match="one channel"):
        dataset(root).target(0)
    Image.new("I;16", (4, 4)).save(annotations / "ulm_000000_000019_gtFine_instanceIds.png")
    with pytest.raises(ValueError, match=r"4 x 4 pixels, but the image has 64 x 32"):
        dataset(root).target(0)
    (annotations / "ulm_000001_000019_gtFine_polygons.json").unlink()
    with pytest.raises(FileNotFoundError, match="ulm_000001"):
        dataset(root)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        convert_cityscapes(tmp_path / "nowhere")
