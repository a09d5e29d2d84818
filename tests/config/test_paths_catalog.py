"""Names of data sets and weights."""

import re

import pytest

from maskrcnn_lib.config import list_configs
from maskrcnn_lib.config.paths_catalog import (
    DatasetCatalog,
    ModelCatalog,
    load_dataset_catalog,
    load_model_catalog,
)

_NAMES = """
coco_2017_train coco_2017_val coco_2014_train coco_2014_val coco_2014_minival
coco_2014_valminusminival keypoints_coco_2014_train keypoints_coco_2014_val
keypoints_coco_2014_minival keypoints_coco_2014_valminusminival voc_2007_train voc_2007_val
voc_2007_test voc_2007_train_cocostyle voc_2007_val_cocostyle voc_2007_test_cocostyle
voc_2012_train voc_2012_val voc_2012_train_cocostyle voc_2012_val_cocostyle voc_2012_test
cityscapes_fine_instanceonly_seg_train_cocostyle cityscapes_fine_instanceonly_seg_val_cocostyle
cityscapes_fine_instanceonly_seg_test_cocostyle cityscapes_poly_instance_train
cityscapes_poly_instance_val cityscapes_poly_instance_minival cityscapes_mask_instance_train
cityscapes_mask_instance_val cityscapes_mask_instance_minival
""".split()


def test_names_of_data_sets_are_those_of_maskrcnn_benchmark():
    # the year of which torchvision and D2Go took their persons is ours
    added = {"keypoints_coco_2017_train", "keypoints_coco_2017_val"}
    assert set(DatasetCatalog.DATASETS) == set(_NAMES) | added


@pytest.mark.parametrize(
    ("name", "factory", "args"),
    [
        (
            "coco_2014_minival",
            "COCODataset",
            {
                "root": "datasets/coco/val2014",
                "ann_file": "datasets/coco/annotations/instances_minival2014.json",
            },
        ),
        (
            "keypoints_coco_2014_train",
            "COCODataset",
            {
                "root": "datasets/coco/train2014",
                "ann_file": "datasets/coco/annotations/person_keypoints_train2014.json",
            },
        ),
        (
            "voc_2012_val_cocostyle",
            "COCODataset",
            {
                "root": "datasets/voc/VOC2012/JPEGImages",
                "ann_file": "datasets/voc/VOC2012/Annotations/pascal_val2012.json",
            },
        ),
        (
            "voc_2007_test",
            "PascalVOCDataset",
            {"data_dir": "datasets/voc/VOC2007", "split": "test"},
        ),
        (
            "cityscapes_mask_instance_minival",
            "CityScapesDataset",
            {
                "img_dir": "datasets/cityscapes/leftImg8bit/val",
                "ann_dir": "datasets/cityscapes/gtFine/val",
                "split": "val",
                "mode": "mask",
                "mini": 10,
            },
        ),
    ],
)
def test_name_gives_constructor_and_arguments(name, factory, args):
    assert DatasetCatalog.get(name) == {"factory": factory, "args": args}


@pytest.mark.parametrize(
    ("line", "annotations", "images"),
    [
        ("coco:a.json:images", "a.json", "images"),
        ("coco:/data/my set/a.JSON:../photos", "/data/my set/a.JSON", "../photos"),
        (r"coco:C:\data\a.json:D:\photos", r"C:\data\a.json", r"D:\photos"),
    ],
)
def test_one_line_names_a_set_of_ones_own(line, annotations, images):
    assert DatasetCatalog.get(line) == {
        "factory": "COCODataset",
        "args": {"ann_file": annotations, "root": images},
    }


def test_incomplete_line_says_how_it_is_written():
    with pytest.raises(ValueError, match=r"coco:ANNOTATIONS\.json:IMAGE_DIR"):
        DatasetCatalog.get("coco:annotations.json")


def test_unknown_data_set_names_its_neighbours():
    with pytest.raises(KeyError, match="coco_2017_val"):
        DatasetCatalog.get("coco_2017_vall")


def test_data_directory_and_own_entries_can_be_set(monkeypatch):
    monkeypatch.setattr(DatasetCatalog, "DATA_DIR", "/data")
    entry = {"img_dir": "mine/images", "ann_file": "mine/train.json"}
    monkeypatch.setitem(DatasetCatalog.DATASETS, "mine", entry)
    assert DatasetCatalog.get("mine")["args"] == {
        "root": "/data/mine/images",
        "ann_file": "/data/mine/train.json",
    }


def test_catalog_file_takes_the_place_of_the_library_s(tmp_path):
    path = tmp_path / "my_catalog.py"
    path.write_text(
        "class DatasetCatalog:\n"
        "    @staticmethod\n"
        "    def get(name):\n"
        "        return {'factory': name, 'args': {}}\n"
    )
    assert load_dataset_catalog(path).get("x") == {"factory": "x", "args": {}}
    with pytest.raises(ValueError, match="ModelCatalog"):
        load_model_catalog(path)
    assert load_dataset_catalog("") is DatasetCatalog
    assert load_model_catalog() is ModelCatalog


def test_missing_catalog_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.py"):
        load_dataset_catalog("nowhere.py")


@pytest.mark.parametrize(
    ("name", "url"),
    [
        (
            "ImageNetPretrained/MSRA/R-50",
            "https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained/MSRA/R-50.pkl",
        ),
        (
            "e2e_mask_rcnn_R_50_FPN_1x",
            "https://download.pytorch.org/models/maskrcnn/e2e_mask_rcnn_R_50_FPN_1x.pth",
        ),
        (
            "e2e_faster_rcnn_fbnet_chamv1a_600",
            "https://download.pytorch.org/models/maskrcnn/e2e_faster_rcnn_fbnet_chamv1a_600.pth",
        ),
        ("d2go/mask_rcnn_fbnetv3a_C4", ""),
    ],
)
def test_name_gives_the_published_address(name, url):
    assert ModelCatalog.get(name) == url


def test_address_of_detectron_weights_follows_its_pattern():
    pattern = re.compile(
        r"https://dl\.fbaipublicfiles\.com/detectron/(?P<id>\d{8})/12_2017_baselines/"
        r"(?P<name>[\w.-]+)\.yaml\.\d\d_\d\d_\d\d\.\w{8}/output/train/"
        r"(?P<k>keypoints_)?coco_2014_train%3A(?P=k)?coco_2014_valminusminival/"
        r"generalized_rcnn/model_final\.pkl"
    )
    names = [name for name in ModelCatalog.names() if name.startswith("Caffe2Detectron/COCO/")]
    assert len(names) == 10
    for name in names:
        match = pattern.fullmatch(ModelCatalog.get(name))
        assert match is not None, name
        assert name == f"Caffe2Detectron/COCO/{match['id']}/{match['name']}"
        assert (match["k"] is not None) == ("keypoint" in name)


def test_address_and_hash_of_torchvision_weights_are_those_of_torchvision():
    from torchvision.models import detection

    for kind, weights in (
        ("faster", detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1),
        ("mask", detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1),
    ):
        entry = ModelCatalog.entry(f"torchvision/{kind}rcnn_resnet50_fpn")
        assert entry.url == weights.url
        assert entry.url.endswith(f"/{entry.file_name}")
        assert entry.file_name.endswith(f"-{entry.sha256}.pth")
        # torchvision states the size in MiB with two or three decimals
        assert abs(entry.size / 2**20 - weights.meta["_file_size"]) < 0.006


def test_files_have_names_of_their_own_and_configs_that_exist():
    entries = [ModelCatalog.entry(name) for name in ModelCatalog.names()]
    files = [entry.file_name for entry in entries]
    assert len(set(files)) == len(files)
    assert {entry.config for entry in entries} - {""} <= set(list_configs())


def test_unknown_weights_name_their_neighbours():
    with pytest.raises(KeyError, match="d2go/mask_rcnn_fbnetv3a_C4"):
        ModelCatalog.entry("d2go/mask_rcnn_fbnetv3a_c4")


def test_weights_of_a_config_are_found_by_its_name():
    names = [entry.name for entry in ModelCatalog.for_config("e2e_mask_rcnn_R_50_FPN_1x")]
    assert names == ["e2e_mask_rcnn_R_50_FPN_1x"]
