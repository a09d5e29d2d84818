"""Merging, types, freezing and writing of the configuration tree."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn_lib.config import CfgNode, get_cfg


def _write(path, text):
    path.write_text(text)
    return path


def test_yaml_of_maskrcnn_benchmark_with_tuples_as_text_is_read(tmp_path):
    path = _write(
        tmp_path / "old.yaml",
        """
MODEL:
  META_ARCHITECTURE: "GeneralizedRCNN"
  WEIGHT: "catalog://ImageNetPretrained/MSRA/R-50"
  BACKBONE:
    CONV_BODY: "R-50-FPN-RETINANET"
  RPN:
    ANCHOR_STRIDE: (4, 8, 16, 32, 64)
    USE_FPN: True
  ROI_BOX_HEAD:
    POOLER_SCALES: (0.25, 0.125, 0.0625, 0.03125)
  RETINANET:
    SCALES_PER_OCTAVE: 3
    STRADDLE_THRESH: -1
  FBNET:
    DET_HEAD_LAST_SCALE: 0
DATASETS:
  TRAIN: ("coco_2014_train", "coco_2014_valminusminival")
SOLVER:
  BIAS_LR_FACTOR: 1
INPUT:
  MIN_SIZE_TRAIN: (320, )
""",
    )
    loaded = get_cfg(path)
    assert loaded.MODEL.RPN.ANCHOR_STRIDE == (4, 8, 16, 32, 64)
    assert loaded.MODEL.ROI_BOX_HEAD.POOLER_SCALES == (0.25, 0.125, 0.0625, 0.03125)
    assert loaded.DATASETS.TRAIN == ("coco_2014_train", "coco_2014_valminusminival")
    assert loaded.INPUT.MIN_SIZE_TRAIN == (320,)
    assert loaded.MODEL.FBNET.DET_HEAD_LAST_SCALE == 0.0
    assert type(loaded.SOLVER.BIAS_LR_FACTOR) is float


@pytest.mark.parametrize(
    ("key", "value", "stored"),
    [
        ("SOLVER.BASE_LR", 1, 1.0),
        ("SOLVER.BASE_LR", "1e-3", 0.001),
        ("INPUT.PIXEL_STD", (1, 2, 3), [1.0, 2.0, 3.0]),
        ("MODEL.RPN.ANCHOR_STRIDE", [8], (8,)),
        ("MODEL.RPN.ANCHOR_SIZES", "(32.5, 64)", (32.5, 64)),
        ("MODEL.RPN.ANCHOR_SIZES", [[32, 40], [64, 80]], ((32, 40), (64, 80))),
        ("TEST.EXPECTED_RESULTS", [("box", "AP", (0.3, 0.1))], [["box", "AP", [0.3, 0.1]]]),
        ("MODEL.MASK_ON", "true", True),
        ("MODEL.MASK_ON", "False", False),
        ("MODEL.WEIGHT", "123", "123"),
        ("MODEL.WEIGHT", "''", ""),
        ("MODEL.WEIGHT", "a path/with (brackets).pth", "a path/with (brackets).pth"),
        ("DATASETS.TEST", '("coco:a.json:images",)', ("coco:a.json:images",)),
    ],
)
def test_override_takes_the_type_of_the_default(key, value, stored):
    fresh = get_cfg()
    fresh.merge_from_list([key, value])
    result = fresh.flat()[key]
    assert result == stored
    assert type(result) is type(stored)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("SOLVER.MAX_ITER", 1.5, ["SOLVER.MAX_ITER", "expected int", "got float 1.5"]),
        ("SOLVER.MAX_ITER", True, ["SOLVER.MAX_ITER", "expected int", "got bool True"]),
        ("SOLVER.BASE_LR", True, ["SOLVER.BASE_LR", "expected float", "got bool"]),
        ("SOLVER.BASE_LR", "fast", ["SOLVER.BASE_LR", "expected float", "got str 'fast'"]),
        ("MODEL.MASK_ON", 1, ["MODEL.MASK_ON", "expected bool", "got int 1"]),
        ("MODEL.WEIGHT", None, ["MODEL.WEIGHT", "expected str", "got NoneType"]),
        ("INPUT.MIN_SIZE_TRAIN", 800, ["expected tuple of int", "got int 800", "(800,)"]),
        ("DATASETS.TRAIN", "coco_2017_train", ["expected tuple", "('coco_2017_train',)"]),
        ("INPUT.PIXEL_MEAN", [1, "x", 3], ["INPUT.PIXEL_MEAN", "list of float", "str 'x'"]),
        ("MODEL.RESNETS.STAGE_WITH_DCN", (0, 1, 1, 1), ["tuple of bool", "int 0"]),
        ("MODEL.RPN", 3, ["MODEL.RPN is a section", "MODEL.RPN.USE_FPN"]),
    ],
)
def test_wrong_type_names_key_expected_and_given(key, value, words):
    with pytest.raises(ValueError) as error:
        get_cfg().merge_from_list([key, value])
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("key", "neighbour"),
    [
        ("MODEL.RPN.NMS_TRESH", "MODEL.RPN.NMS_THRESH"),
        ("MODEL.NUM_CLASSES", "MODEL.ROI_BOX_HEAD.NUM_CLASSES"),
        ("Model.Mask_On", "MODEL.MASK_ON"),
        ("SOLVER.BASE_LR.X", "SOLVER.BASE_LR"),
    ],
)
def test_unknown_key_names_its_neighbour_in_overrides_and_files(tmp_path, key, neighbour):
    with pytest.raises(KeyError, match=neighbour):
        get_cfg().merge_from_list([key, 1])
    nested = "".join(f"{'  ' * i}{part}:\n" for i, part in enumerate(key.split(".")))
    path = _write(tmp_path / "typo.yaml", nested.rstrip("\n") + " 1\n")
    with pytest.raises(KeyError) as error:
        get_cfg().merge_from_file(path)
    assert neighbour in str(error.value)
    assert "typo.yaml" in str(error.value)


def test_nothing_is_merged_from_a_file_with_an_unknown_key(tmp_path):
    path = _write(tmp_path / "half.yaml", "DTYPE: bfloat16\nNO_SUCH_KEY: 1\n")
    fresh = get_cfg()
    with pytest.raises(KeyError):
        fresh.merge_from_file(path)
    assert fresh == get_cfg()


def test_odd_number_of_overrides_is_refused():
    with pytest.raises(ValueError, match="KEY VALUE pairs"):
        get_cfg(None, ["MODEL.MASK_ON"])


def test_frozen_config_cannot_be_changed_and_its_clone_can_after_defrost():
    fresh = get_cfg()
    fresh.freeze()
    with pytest.raises(AttributeError, match="MASK_ON"):
        fresh.MODEL.MASK_ON = True
    with pytest.raises(AttributeError, match=r"MODEL\.MASK_ON.*frozen"):
        fresh.merge_from_list(["MODEL.MASK_ON", True])
    clone = fresh.clone()
    clone.defrost()
    clone.MODEL.MASK_ON = True
    assert not fresh.MODEL.MASK_ON


def test_merging_another_tree_or_dict_takes_its_values():
    fresh = get_cfg()
    fresh.merge_from_other_cfg(CfgNode({"MODEL": {"MASK_ON": True}}))
    fresh.merge_from_other_cfg({"MODEL": {"RPN": {"NMS_THRESH": 1}}, "SOLVER": {}})
    assert fresh.MODEL.MASK_ON
    assert fresh.MODEL.RPN.NMS_THRESH == 1.0


def test_every_changed_value_survives_dump_and_load(tmp_path):
    changed = get_cfg("torchvision/maskrcnn_resnet50_fpn")
    changed.merge_from_list(["TEST.EXPECTED_RESULTS", [["box", "AP", [0.38, 1e-7]]]])
    changed.merge_from_list(["MODEL.RPN.ANCHOR_SIZES", ((32,), (64,), (128,), (256,), (512,))])
    path = _write(tmp_path / "config.yml", changed.dump())
    assert get_cfg(path) == changed


@settings(max_examples=30, deadline=None)
@given(
    text=st.text(max_size=20),
    number=st.floats(0, 1e6, allow_nan=False),
    numbers=st.lists(st.integers(1, 10**6), min_size=1, max_size=5),
)
def test_any_text_and_number_survives_dump_and_load(tmp_path_factory, text, number, numbers):
    tree = get_cfg()
    tree.MODEL.WEIGHT = text
    tree.SOLVER.BASE_LR = number
    tree.INPUT.MIN_SIZE_TRAIN = tuple(numbers)
    path = tmp_path_factory.mktemp("dump") / "config.yml"
    path.write_text(tree.dump(), encoding="utf-8")
    assert get_cfg(path) == tree


def test_python_given_as_text_or_open_file_to_load_cfg_is_not_run(tmp_path):
    path = _write(tmp_path / "evil.py", "raise SystemExit('was run')\ncfg = {}\n")
    with open(path) as file, pytest.raises(ValueError, match="Python"):
        CfgNode.load_cfg(file)


def test_renamed_key_says_its_new_name():
    fresh = get_cfg()
    fresh.register_renamed_key("MODEL.WEIGHTS", "MODEL.WEIGHT")
    with pytest.raises(KeyError, match=r"MODEL\.WEIGHTS was renamed to MODEL\.WEIGHT"):
        fresh.merge_from_list(["MODEL.WEIGHTS", "x.pth"])
