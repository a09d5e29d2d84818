"""Detectron's configs of December 2017 and April 2018, against its tables of schedules."""

import pytest

from maskrcnn_lib.config import list_configs
from maskrcnn_lib.config.paths_catalog import ModelCatalog

from .published import (
    BENCHMARK,
    RESNEXT_64X4D,
    benchmark_changes,
    changes_of,
    keypoint_changes,
    schedule,
    without_defaults,
)

# Ours of maskrcnn-benchmark, which took over Detectron's values, by Detectron's name of the body.
_BODIES = {name.replace("_", "-"): name for name in BENCHMARK}
_X64 = RESNEXT_64X4D | {"MODEL.WEIGHT": "catalog://ImageNetPretrained/FBResNeXt/X-101-64x4d"}
_SIXTEEN = {
    "1x": schedule(16, 0.02, (60000, 80000), 90000),
    "2x": schedule(16, 0.02, (120000, 160000), 180000),
    "3x": schedule(16, 0.02, (210000, 250000), 270000),
    "s1x": schedule(16, 0.02, (100000, 120000), 130000),
}
_EIGHT = {
    "1x": schedule(8, 0.01, (120000, 160000), 180000),
    "2x": schedule(8, 0.01, (240000, 320000), 360000),
    "s1x": schedule(8, 0.01, (200000, 240000), 260000),
}
_JITTER = {"INPUT.MIN_SIZE_TRAIN": (640, 672, 704, 736, 768, 800)}


def _on_body(kind, body):
    """Values of "faster" or "mask" R-CNN on one of Detectron's five bodies."""
    if body == "X-101-64x4d-FPN":
        return benchmark_changes(kind, "X_101_32x8d_FPN") | _X64
    return benchmark_changes(kind, _BODIES[body])


@pytest.mark.parametrize("kind", ["faster", "mask"])
@pytest.mark.parametrize("body", [*_BODIES, "X-101-64x4d-FPN"])
@pytest.mark.parametrize("length", ["1x", "2x"])
def test_two_stage_model_resolves_to_its_published_values(kind, body, length):
    small_batch = body.startswith("X") or body.endswith("C4")
    numbers = (_EIGHT if small_batch else _SIXTEEN)[length]
    name = f"detectron/e2e_{kind}_rcnn_{body}_{length}"
    assert changes_of(name) == without_defaults(_on_body(kind, body) | numbers)


def test_largest_model_resolves_to_its_published_values():
    name = "e2e_mask_rcnn_X-152-32x8d-FPN-IN5k_1.44x"
    expected = benchmark_changes("mask", "X_101_32x8d_FPN") | _EIGHT["s1x"] | _JITTER
    expected["MODEL.BACKBONE.CONV_BODY"] = "R-152-FPN"
    expected["MODEL.WEIGHT"] = "catalog://ImageNetPretrained/25093814/X-152-32x8d-IN5k"
    assert changes_of(f"detectron/{name}") == without_defaults(expected)


@pytest.mark.parametrize("body", [*_BODIES, "X-101-64x4d-FPN"])
def test_proposal_network_resolves_to_its_published_values(body):
    of_ours = "X_101_32x8d_FPN" if body == "X-101-64x4d-FPN" else _BODIES[body]
    expected = changes_of(f"rpn_{of_ours}_1x") | (_X64 if "64x4d" in body else {})
    expected = without_defaults(expected | _SIXTEEN["1x"])
    assert changes_of(f"detectron/rpn_{body}_1x") == expected
    if body != "R-50-C4":
        expected |= {key: keypoint_changes()[key] for key in ("DATASETS.TRAIN", "DATASETS.TEST")}
        assert changes_of(f"detectron/rpn_person_only_{body}_1x") == expected


@pytest.mark.parametrize("body", [*list(_BODIES)[1:], "X-101-64x4d-FPN"])
@pytest.mark.parametrize("length", ["1x", "s1x"])
def test_keypoint_model_resolves_to_its_published_values(body, length):
    # All with 16 images and the full rate, also those that have half elsewhere.
    persons = keypoint_changes() | _SIXTEEN[length]
    del persons["MODEL.WEIGHT"]
    expected = _on_body("faster", body) | persons
    expected["MODEL.BACKBONE.CONV_BODY"] = "R-50-FPN" if body == "R-50-FPN" else "R-101-FPN"
    name = f"detectron/e2e_keypoint_rcnn_{body}_{length}"
    assert changes_of(name) == without_defaults(expected)


@pytest.mark.parametrize("depth", [50, 101])
@pytest.mark.parametrize("name", ["{}_2x_gn", "{}_3x_gn", "scratch_{}_3x_gn"])
def test_group_norm_resolves_to_its_published_values(depth, name):
    expected = benchmark_changes("mask", f"R_{depth}_FPN") | {
        "MODEL.WEIGHT": f"catalog://ImageNetPretrained/MSRA/R-{depth}-GN",
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "MODEL.RESNETS.TRANS_FUNC": "BottleneckWithGN",
        "MODEL.RESNETS.STEM_FUNC": "StemWithGN",
        "MODEL.FPN.USE_GN": True,
        "MODEL.ROI_BOX_HEAD.FEATURE_EXTRACTOR": "FPNXconv1fcFeatureExtractor",
        "MODEL.ROI_BOX_HEAD.USE_GN": True,
        "MODEL.ROI_MASK_HEAD.USE_GN": True,
        "SOLVER.WEIGHT_DECAY_NORM": 0,
        **_SIXTEEN["2x" if "2x" in name else "3x"],
    }
    if name.startswith("scratch"):
        expected |= {"MODEL.WEIGHT": "", "MODEL.BACKBONE.FREEZE_CONV_BODY_AT": 0}
    full_name = name.format(f"e2e_mask_rcnn_R-{depth}-FPN")
    assert changes_of(f"detectron/{full_name}") == without_defaults(expected)


@pytest.mark.parametrize(
    ("gpus", "numbers"),
    [
        (1, (2, 0.0025, (30000, 40000), 60000)),
        (2, (4, 0.005, (15000, 20000), 30000)),
        (4, (8, 0.01, (7500, 10000), 15000)),
        (8, (16, 0.02, (3750, 5000), 7500)),
    ],
)
def test_tutorial_resolves_to_its_published_values(gpus, numbers):
    expected = benchmark_changes("faster", "R_50_FPN") | {
        "INPUT.MIN_SIZE_TRAIN": (500,),
        "INPUT.MAX_SIZE_TRAIN": 833,
        "INPUT.MIN_SIZE_TEST": 500,
        "INPUT.MAX_SIZE_TEST": 833,
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 256,
        "DATASETS.TRAIN": ("coco_2014_train",),
        **schedule(*numbers),
    }
    name = f"detectron/tutorial_{gpus}gpu_e2e_faster_rcnn_R-50-FPN"
    assert changes_of(name) == without_defaults(expected)


_WITH_OWN_PROPOSALS = [
    name
    for name in list_configs()
    if name.startswith(("detectron/e2e_faster", "detectron/e2e_mask", "detectron/e2e_keypoint"))
    and "X-152" not in name
    and not name.endswith("_gn")
]


@pytest.mark.parametrize("name", _WITH_OWN_PROPOSALS)
def test_model_on_given_proposals_is_the_other_without_an_rpn(name):
    fast = name.replace("e2e_faster", "fast").replace("e2e_", "")
    assert changes_of(fast) == changes_of(name) | {"MODEL.LOAD_PROPOSALS": True}


def test_group_norm_on_given_proposals_has_the_shorter_schedule():
    expected = changes_of("detectron/e2e_mask_rcnn_R-50-FPN_2x_gn") | _SIXTEEN["1x"]
    expected["MODEL.LOAD_PROPOSALS"] = True
    assert changes_of("detectron/mask_rcnn_R-50-FPN_1x_gn") == without_defaults(expected)


def test_every_published_model_has_a_config():
    published = {name for name in ModelCatalog.names() if name.startswith("detectron/")}
    configs = {name for name in list_configs() if name.startswith("detectron/")}
    without_weights = {name for name in configs if "tutorial" in name}
    without_weights.add("detectron/mask_rcnn_R-50-FPN_1x_gn")
    without_weights |= {name for name in configs if "test_time_aug" in name}
    # 74 of December 2017, 7 with group norm, 4 tutorials, 2 with augmentation of tests
    assert len(configs) == 74 + 7 + 4 + 2
    assert configs == published | without_weights


@pytest.mark.parametrize(
    ("name", "section"),
    [("e2e_mask_rcnn_R-50-FPN_2x", "MASK"), ("keypoint_rcnn_R-50-FPN_1x", "KPS")],
)
def test_augmentation_of_tests_resolves_to_its_published_values(name, section):
    """Eight sizes and their mirror images, and votes of 0.9."""
    expected = changes_of(f"detectron/{name}")
    expected |= {"TEST.BBOX_VOTE.ENABLED": True, "TEST.BBOX_VOTE.VOTE_TH": 0.9}
    for augmented in ("BBOX", section):
        expected |= {
            f"TEST.{augmented}_AUG.ENABLED": True,
            f"TEST.{augmented}_AUG.H_FLIP": True,
            f"TEST.{augmented}_AUG.SCALES": (400, 500, 600, 700, 900, 1000, 1100, 1200),
            f"TEST.{augmented}_AUG.MAX_SIZE": 2000,
            f"TEST.{augmented}_AUG.SCALE_H_FLIP": True,
        }
    assert changes_of(f"detectron/test_time_aug/{name}") == expected
