"""Values that contradict each other are refused with a message that says which."""

import pytest

from maskrcnn_lib.config import get_cfg, validate
from maskrcnn_lib.config.validation import keys_not_followed


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["MODEL.DIALECT", "caffe3"], ["MODEL.DIALECT 'caffe3'", "maskrcnn_benchmark"]),
        (["DTYPE", "float8"], ["DTYPE 'float8'", "bfloat16"]),
        (["MODEL.RPN.USE_FPN", True], ["one entry per level", "5 and 1"]),
        (["MODEL.RPN.ANCHOR_STRIDE", (8, 16)], ["without MODEL.RPN.USE_FPN", "(8, 16)"]),
        (["MODEL.RPN.ASPECT_RATIOS", ()], ["must not be empty"]),
        (["INPUT.PIXEL_MEAN", [1, 2]], ["PIXEL_MEAN", "2 and 3"]),
        (["INPUT.PIXEL_STD", [1, 0, 1]], ["INPUT.PIXEL_STD", "positive"]),
        (["INPUT.MIN_SIZE_TRAIN", ()], ["INPUT.MIN_SIZE_TRAIN"]),
        (["INPUT.MIN_SIZE_TEST", 0], ["INPUT.MIN_SIZE_TEST must be at least 1"]),
        (["INPUT.MAX_SIZE_TEST", -1], ["INPUT.MAX_SIZE_TEST must not be negative"]),
        (["MODEL.ROI_BOX_HEAD.NUM_CLASSES", 1], ["ROI_BOX_HEAD.NUM_CLASSES", "at least 2"]),
        (["MODEL.ROI_HEADS.SCORE_THRESH", 5], ["SCORE_THRESH", "within 0 and 1", "5.0"]),
        (["MODEL.RPN.BG_IOU_THRESHOLD", 0.8], ["MODEL.RPN.BG_IOU_THRESHOLD 0.8", "0.7"]),
        (["MODEL.ROI_HEADS.BBOX_REG_WEIGHTS", (1.0, 1.0)], ["dx, dy, dw, dh"]),
        (["MODEL.ROI_BOX_HEAD.POOLER_SCALES", (0.25, 0.125)], ["ROI_BOX_HEAD.POOLER_SCALES"]),
        (["MODEL.RETINANET.ANCHOR_SIZES", (32,)], ["MODEL.RETINANET.ANCHOR_SIZES", "1 and 5"]),
        (["MODEL.RETINANET_ON", True], ["RPN_ONLY"]),
        (["MODEL.GROUP_NORM.DIM_PER_GP", 8], ["exactly one", "8 and 32"]),
        (["SOLVER.STEPS", (200, 100)], ["SOLVER.STEPS must rise"]),
        (["SOLVER.WARMUP_METHOD", "cosine"], ["'cosine'", "linear"]),
        (["TEST.SOFT_NMS.MIN_SCORE", 5.0], ["TEST.SOFT_NMS.MIN_SCORE", "within 0 and 1"]),
        (["MODEL.RFCN.PS_GRID_SIZE", 0], ["MODEL.RFCN.PS_GRID_SIZE must be at least 1"]),
        (["MODEL.RFCN.REDUCED_CHANNELS", -1], ["REDUCED_CHANNELS must not be negative"]),
    ],
)
def test_message_names_the_key_and_what_would_do(overrides, words):
    with pytest.raises(ValueError) as error:
        get_cfg(None, overrides)
    for word in words:
        assert word in str(error.value)


def test_scales_that_do_not_halve_are_refused():
    name = "e2e_faster_rcnn_R_50_FPN_1x"
    with pytest.raises(ValueError, match="must halve from level to level"):
        get_cfg(name, ["MODEL.ROI_BOX_HEAD.POOLER_SCALES", (0.25, 0.125, 0.1, 0.05)])


def test_mask_head_is_checked_only_where_it_is_used():
    overrides = ["MODEL.ROI_MASK_HEAD.POOLER_SCALES", ()]
    assert get_cfg(None, overrides).MODEL.ROI_MASK_HEAD.POOLER_SCALES == ()
    with pytest.raises(ValueError, match="ROI_MASK_HEAD"):
        get_cfg(None, [*overrides, "MODEL.MASK_ON", True])


def test_all_problems_are_listed_at_once():
    config = get_cfg()
    config.merge_from_list(["DTYPE", "int8", "MODEL.RPN.NMS_THRESH", 7, "SOLVER.MAX_ITER", 0])
    with pytest.raises(ValueError) as error:
        validate(config)
    assert str(error.value).count("\n  - ") == 3


def test_retinanet_leaves_the_anchors_of_the_rpn_as_they_are():
    overrides = ["MODEL.RETINANET_ON", True, "MODEL.RPN_ONLY", True, "MODEL.RPN.USE_FPN", True]
    assert get_cfg(None, overrides).MODEL.RETINANET_ON


def test_keys_that_are_not_followed_are_found():
    assert keys_not_followed(get_cfg()) == []
    asked = ["MODEL.ROI_MASK_HEAD.POSTPROCESS_MASKS", True]
    assert sorted(keys_not_followed(get_cfg(None, asked))) == sorted(asked[::2])


def test_a_one_stage_detector_does_not_follow_what_needs_roi_heads():
    asked = ["MODEL.MASK_ON", True, "TEST.SOFT_NMS.ENABLED", True]
    assert keys_not_followed(get_cfg(None, asked)) == []
    retinanet = ["MODEL.RETINANET_ON", True, "MODEL.RPN_ONLY", True]
    assert keys_not_followed(get_cfg(None, retinanet)) == []
    assert keys_not_followed(get_cfg(None, [*retinanet, *asked])) == asked[::2]


def test_a_model_that_only_proposes_follows_neither_heads_nor_augmentation():
    asked = ["MODEL.MASK_ON", True, "MODEL.KEYPOINT_ON", True, "TEST.BBOX_AUG.ENABLED", True]
    proposes = ["MODEL.RPN_ONLY", True]
    assert keys_not_followed(get_cfg(None, proposes)) == []
    assert keys_not_followed(get_cfg(None, [*proposes, *asked])) == asked[::2]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("TEST.BBOX_AUG.SCORE_HEUR", "AVG"),
        ("TEST.BBOX_AUG.SCALES", (400, 0)),
        ("TEST.KPS_AUG.ASPECT_RATIOS", (1.0, 0.0)),
        ("TEST.MASK_AUG.HEUR", "HM_AVG"),
        ("TEST.KPS_AUG.HEUR", "SOFT_AVG"),
        ("TEST.BBOX_VOTE.SCORING_METHOD", "MEAN"),
        ("TEST.BBOX_VOTE.SCORING_METHOD_BETA", 0.0),
    ],
)
def test_augmentation_that_cannot_be_meant_is_refused(key, value):
    with pytest.raises(ValueError, match=key):
        get_cfg(None, [key, value])


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("e2e_mask_rcnn_R_50_FPN_1x", 28),
        ("e2e_mask_rcnn_R_50_C4_1x", 14),
        ("mmdet/point-rend_r50-caffe_fpn_ms-1x_coco", 7),
    ],
)
def test_side_of_masks_has_to_be_what_the_head_gives(name, side):
    key = "MODEL.ROI_MASK_HEAD.RESOLUTION"
    assert get_cfg(name).flat()[key] == side
    with pytest.raises(ValueError, match=rf"{key} is 56, but .* {side} x {side}"):
        get_cfg(name, [key, 56])
    assert get_cfg(name, [key, 56, "MODEL.MASK_ON", False])
