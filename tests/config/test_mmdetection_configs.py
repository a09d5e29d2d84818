"""mmdetection's core configs, against its recipes and conventions."""

import pytest

from maskrcnn_lib.config import get_cfg, list_configs
from maskrcnn_lib.config.paths_catalog import ModelCatalog

# Epochs, and those at which the rate falls.
_LENGTHS = {
    "1x": (12, (8, 11)),
    "2x": (24, (16, 22)),
    "caffe ms 2x": (24, (16, 23)),
    "ms 3x": (36, (27, 33)),
    # Version 3's own file never comes to its steps; the published weights had them.
    "caffe ms 3x": (36, (28, 34)),
}
_KINDS = ("faster-rcnn", "mask-rcnn", "retinanet", "rpn")
_NAMES = [
    name for name in list_configs() if name.startswith(tuple(f"mmdet/{kind}" for kind in _KINDS))
]


def _length(name):
    length = next(length for length in ("1x", "2x", "3x") if f"{length}_coco" in name)
    if "ms-" not in name:
        return length
    older = "r50-caffe" in name
    return f"caffe ms {length}" if older else f"ms {length}"


@pytest.mark.parametrize("name", _NAMES)
def test_schedule_is_that_of_the_name(name):
    cfg = get_cfg(name)
    solver = cfg.SOLVER
    assert (solver.MAX_EPOCH, solver.STEPS) == _LENGTHS[_length(name)]
    assert solver.IMS_PER_BATCH == solver.REFERENCE_BATCH == 16
    assert solver.BASE_LR == (0.01 if "retinanet" in name else 0.02)
    assert (solver.MOMENTUM, solver.WEIGHT_DECAY, solver.WEIGHT_DECAY_BIAS) == (0.9, 1e-4, 1e-4)
    assert solver.BIAS_LR_FACTOR == 1
    assert (solver.WARMUP_ITERS, solver.WARMUP_FACTOR) == (500, 0.001)
    assert cfg.DTYPE == ("float16" if "amp" in name else "float32")


@pytest.mark.parametrize("name", _NAMES)
def test_sizes_of_images_are_those_of_the_name(name):
    keys = get_cfg(name).INPUT
    sizes, sampling = (800,), "choice"
    if "caffe ms" in _length(name):
        sizes = (640, 672, 704, 736, 768, 800)
    elif "ms-" in name:
        sizes, sampling = (640, 800), "range"
    assert (keys.MIN_SIZE_TRAIN, keys.MIN_SIZE_TRAIN_SAMPLING) == (sizes, sampling)
    assert (keys.MAX_SIZE_TRAIN, keys.MIN_SIZE_TEST, keys.MAX_SIZE_TEST) == (1333, 800, 1333)
    assert keys.HORIZONTAL_FLIP_PROB_TRAIN == 0.5


@pytest.mark.parametrize("name", _NAMES)
def test_pixels_and_body_are_in_the_style_of_the_name(name):
    cfg = get_cfg(name)
    body, keys = cfg.MODEL.RESNETS, cfg.INPUT
    caffe = "caffe" in name
    mean = (
        [103.53, 116.28, 123.675] if caffe else [value / 255 for value in (123.675, 116.28, 103.53)]
    )
    std = [1, 1, 1] if caffe else [value / 255 for value in (58.395, 57.12, 57.375)]
    assert keys.PIXEL_MEAN == pytest.approx(mean)
    assert keys.PIXEL_STD == pytest.approx(std)
    assert keys.TO_BGR255 == caffe
    assert body.STRIDE_IN_1X1 == caffe
    groups = {"x101-32x4d": (32, 4), "x101-64x4d": (64, 4)}
    expected = next((shape for part, shape in groups.items() if part in name), (1, 64))
    assert (body.NUM_GROUPS, body.WIDTH_PER_GROUP) == expected
    depth = 18 if "_r18" in name else 50 if "_r50" in name else 101
    assert cfg.MODEL.BACKBONE.CONV_BODY.startswith(f"R-{depth}-")
    assert body.RES2_OUT_CHANNELS == (64 if depth == 18 else 256)
    assert cfg.MODEL.DIALECT == "mmdet"


@pytest.mark.parametrize(
    "name", [name for name in _NAMES if "_fpn" in name and "retinanet" not in name]
)
def test_proposals_are_a_thousand_an_image(name):
    rpn = get_cfg(name).MODEL.RPN
    alone = "rpn_" in name.partition("/")[2][:4]
    assert rpn.PRE_NMS_TOP_N_TRAIN == 2000
    assert rpn.PRE_NMS_TOP_N_TEST == (2000 if alone else 1000)
    assert rpn.FPN_POST_NMS_TOP_N_TRAIN == rpn.FPN_POST_NMS_TOP_N_TEST == 1000
    assert not rpn.FPN_POST_NMS_PER_BATCH
    assert get_cfg(name).MODEL.RPN_ONLY == alone


def test_dilated_c5_keeps_the_stride_of_c4():
    keys = get_cfg("mmdet/faster-rcnn_r50-caffe-dc5_1x_coco").MODEL
    assert keys.BACKBONE.CONV_BODY == "R-50-C5"
    assert keys.RESNETS.RES5_DILATION == 2
    assert keys.RPN.ANCHOR_STRIDE == (16,)
    assert keys.RPN.ANCHOR_SIZES == (32, 64, 128, 256, 512)
    assert (keys.RPN.PRE_NMS_TOP_N_TRAIN, keys.RPN.POST_NMS_TOP_N_TRAIN) == (12000, 2000)
    assert (keys.RPN.PRE_NMS_TOP_N_TEST, keys.RPN.POST_NMS_TOP_N_TEST) == (6000, 1000)
    box = keys.ROI_BOX_HEAD
    assert box.FEATURE_EXTRACTOR == "FPN2MLPFeatureExtractor"
    assert (box.POOLER_RESOLUTION, box.POOLER_SAMPLING_RATIO) == (7, 0)
    assert box.POOLER_SCALES == (1 / 16,)


@pytest.mark.parametrize("kind", ["faster", "mask", "cascade-mask"])
def test_deformable_stages_are_those_of_the_name(kind):
    plain = get_cfg(f"mmdet/{kind}-rcnn_r50_fpn_1x_coco").flat()
    kinds = {"dconv": False} if kind == "cascade-mask" else {"dconv": False, "mdconv": True}
    for name, modulated in kinds.items():
        keys = {
            "MODEL.RESNETS.STAGE_WITH_DCN": (False, True, True, True),
            "MODEL.RESNETS.WITH_MODULATED_DCN": modulated,
        }
        assert get_cfg(f"mmdet/{kind}-rcnn_r50-{name}-c3-c5_fpn_1x_coco").flat() == plain | keys


def test_yolof_is_trained_on_64_images_and_its_body_slowly():
    cfg = get_cfg("mmdet/yolof_r50-c5_8xb8-1x_coco")
    solver, keys, yolof = cfg.SOLVER, cfg.MODEL, cfg.MODEL.YOLOF
    assert (solver.BASE_LR, solver.IMS_PER_BATCH, solver.REFERENCE_BATCH) == (0.12, 64, 64)
    assert solver.BODY_LR_FACTOR == pytest.approx(1 / 3)
    assert (solver.WEIGHT_DECAY, solver.WEIGHT_DECAY_NORM) == (1e-4, 0)
    assert (solver.WARMUP_ITERS, solver.WARMUP_FACTOR) == (1500, pytest.approx(1 / 1500, rel=1e-5))
    assert (solver.MAX_EPOCH, solver.STEPS) == _LENGTHS["1x"]
    assert (keys.DIALECT, keys.RESNETS.STRIDE_IN_1X1, cfg.INPUT.TO_BGR255) == ("mmdet", True, True)
    assert (cfg.INPUT.SHIFT.PROB, cfg.INPUT.SHIFT.PIXELS) == (0.5, 32)
    assert keys.RESNETS.BACKBONE_OUT_CHANNELS == 512
    assert (yolof.NMS_TH, yolof.INFERENCE_TH, yolof.PRE_NMS_TOP_N) == (0.6, 0.05, 1000)


def test_every_published_model_of_these_kinds_has_a_config():
    published = {
        name
        for name in ModelCatalog.names()
        if name.startswith(tuple(f"mmdet/{kind}" for kind in _KINDS))
    }
    assert set(_NAMES) == published
