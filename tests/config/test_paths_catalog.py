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


def _torchvision_weights():
    """Builder name -> torchvision's own COCO_V1 weights of it."""
    from torchvision import models

    return {
        name: models.get_model_weights(name).COCO_V1
        for name in models.list_models(module=models.detection)
    }


TORCHVISION = [n for n in ModelCatalog.names() if n.startswith("torchvision/")]


@pytest.mark.parametrize("name", TORCHVISION)
def test_address_hash_and_figures_of_torchvision_weights_are_those_of_torchvision(name):
    weights = _torchvision_weights()[name.removeprefix("torchvision/")]
    entry = ModelCatalog.entry(name)
    assert entry.url == weights.url
    assert entry.url.endswith(f"/{entry.file_name}")
    assert entry.file_name.endswith(f"-{entry.sha256}.pth")
    figures = weights.meta["_metrics"]["COCO-val2017"]
    tasks = {"box_map": "box", "mask_map": "mask", "kp_map": "keypoint"}
    assert entry.published == {tasks[metric]: value for metric, value in figures.items()}
    if entry.size is not None:
        # torchvision states the size in MiB with two or three decimals
        assert abs(entry.size / 2**20 - weights.meta["_file_size"]) < 0.006


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "resnet101", "resnet152", "resnext101_32x8d", "mobilenet_v2"]
)
def test_address_of_torchvision_bodies_is_that_of_torchvision(name):
    from torchvision import models

    entry = ModelCatalog.entry(f"ImageNetPretrained/torchvision/{name}")
    assert entry.url == models.get_model_weights(name).IMAGENET1K_V1.url


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("Caffe2Detectron/COCO/35858933/e2e_mask_rcnn_R-50-FPN_1x", {"box": 37.7, "mask": 33.9}),
        ("detectron/e2e_mask_rcnn_X-152-32x8d-FPN-IN5k_1.44x", {"box": 45.2, "mask": 39.7}),
        ("detectron/fast_rcnn_X-101-32x8d-FPN_2x", {"box": 39.7}),
        ("detectron/keypoint_rcnn_R-101-FPN_s1x", {"box": 54.6, "keypoint": 66.0}),
        ("detectron/retinanet_X-101-64x4d-FPN_2x", {"box": 39.2}),
        ("detectron/rpn_person_only_X-101-32x8d-FPN_1x", {"proposal": 66.2}),
        ("detectron/scratch_e2e_mask_rcnn_R-101-FPN_3x_gn", {"box": 41.0, "mask": 36.4}),
        ("e2e_mask_rcnn_fbnet_xirb16d_dsmask", {"box": 30.7, "mask": 26.9}),
        ("mmdet/mask-rcnn_r50-caffe_fpn_ms-poly-3x_coco", {"box": 40.8, "mask": 37.0}),
        ("mmdet/yolof_r50-c5_8xb8-1x_coco", {"box": 37.5}),
        ("detectron2/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x", {"box": 41.0, "mask": 37.2}),
    ],
)
def test_figures_are_those_that_the_authors_published(name, published):
    assert ModelCatalog.entry(name).published == published


def test_all_models_of_detectron_s_tables_are_there():
    names = [name for name in ModelCatalog.names() if name.startswith("detectron/")]
    # 74 files of 2017 (4 kinds x 5 bodies x 2 schedules, RetinaNet and keypoints 8 and 16, RPN 9,
    # the largest), and 6 with group norm
    assert len(names) == 40 + 8 + 16 + 9 + 1 + 6
    assert all(ModelCatalog.entry(name).published for name in names)


def test_detectron_publishes_an_md5_sum_beside_each_file():
    for name in ModelCatalog.names():
        entry = ModelCatalog.entry(name)
        if "fbaipublicfiles.com/detectron/" in entry.url:
            assert entry.md5_url == f"{entry.url}.md5sum"
        else:
            assert entry.md5_url == ""


def test_files_have_names_of_their_own_and_configs_that_exist():
    entries = [ModelCatalog.entry(name) for name in ModelCatalog.names()]
    urls: dict[str, str] = {}
    for entry in entries:
        # a file that two catalogs list is the same one
        assert urls.setdefault(entry.file_name, entry.url) == entry.url, entry.name
    assert {entry.config for entry in entries} - {""} <= set(list_configs())


def test_unknown_weights_name_their_neighbours():
    with pytest.raises(KeyError, match="d2go/mask_rcnn_fbnetv3a_C4"):
        ModelCatalog.entry("d2go/mask_rcnn_fbnetv3a_c4")


def test_weights_of_a_config_are_found_by_its_name():
    names = [entry.name for entry in ModelCatalog.for_config("e2e_mask_rcnn_R_50_FPN_1x")]
    assert names == ["e2e_mask_rcnn_R_50_FPN_1x"]
