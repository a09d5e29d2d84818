"""The configs that ship, against the published tables and the models that they describe."""

import pytest
import torch
import yaml

from maskrcnn_lib.checkpoint.library_weights import find_library_entry
from maskrcnn_lib.config import config_path, get_cfg, list_configs
from maskrcnn_lib.config.paths_catalog import DatasetCatalog, ModelCatalog
from maskrcnn_lib.modeling.rpn.anchor_generator import build_anchor_generator

from .published import (
    BENCHMARK,
    COCO_2014,
    FPN,
    RESNEXT,
    RESNEXT_64X4D,
    benchmark_changes,
    changes_of,
    keypoint_changes,
    without_defaults,
)

# Configs whose trained weights nobody published, by the beginning of their names.
_WITHOUT_WEIGHTS = (
    *(
        "other_bodies/",
        "maskrcnn_lib/",
        "retinanet/",
        "gn_baselines/",
        "cityscapes/",
        "pascal_voc/",
    ),
    *("dcn/", "quick_schedules/", "test_time_aug/", "e2e_keypoint", "rpn_", "detectron/tutorial_"),
    "detectron/test_time_aug/",
    "e2e_mask_rcnn_R_50_FPN_1x_periodically_testing",
    "detectron/mask_rcnn_R-50-FPN_1x_gn",
)
_BEGIN_WITH_OTHERS = ("balloon",)  # with another config's trained weights


@pytest.mark.parametrize("kind", ["faster", "mask"])
@pytest.mark.parametrize("body", list(BENCHMARK))
def test_config_of_maskrcnn_benchmark_resolves_to_its_published_values(kind, body):
    assert changes_of(f"e2e_{kind}_rcnn_{body}_1x") == benchmark_changes(kind, body)


@pytest.mark.parametrize("kind", ["faster", "mask"])
@pytest.mark.parametrize("body", list(BENCHMARK))
def test_caffe2_config_differs_in_the_weights_alone(kind, body):
    changes = changes_of(f"caffe2/e2e_{kind}_rcnn_{body}_1x_caffe2")
    weights = changes.pop("MODEL.WEIGHT")
    expected = benchmark_changes(kind, body)
    del expected["MODEL.WEIGHT"]
    assert changes == expected
    assert weights.startswith("catalog://Caffe2Detectron/COCO/")
    assert f"e2e_{kind}_rcnn_{body.replace('_', '-')}_1x" in weights


def test_largest_caffe2_model_is_a_resnext_152():
    name = "e2e_mask_rcnn_X-152-32x8d-FPN-IN5k_1.44x"
    expected = {
        **FPN,
        **RESNEXT,
        **COCO_2014,
        "MODEL.MASK_ON": True,
        "MODEL.BACKBONE.CONV_BODY": "R-152-FPN",
        "MODEL.WEIGHT": f"catalog://Caffe2Detectron/COCO/37129812/{name}",
    }
    assert changes_of(f"caffe2/{name}_caffe2") == without_defaults(expected)


def test_keypoint_configs_resolve_to_their_published_values():
    assert changes_of("e2e_keypoint_rcnn_R_50_FPN_1x") == keypoint_changes()
    weights = "catalog://Caffe2Detectron/COCO/37697547/e2e_keypoint_rcnn_R-50-FPN_1x"
    expected = keypoint_changes() | {"MODEL.WEIGHT": weights}
    assert changes_of("caffe2/e2e_keypoint_rcnn_R_50_FPN_1x_caffe2") == expected


@pytest.mark.parametrize(
    "name",
    [
        "fasterrcnn_resnet50_fpn",
        "maskrcnn_resnet50_fpn",
        "keypointrcnn_resnet50_fpn",
        "fasterrcnn_resnet50_fpn_v2",
        "maskrcnn_resnet50_fpn_v2",
        "fasterrcnn_mobilenet_v3_large_fpn",
        "fasterrcnn_mobilenet_v3_large_320_fpn",
    ],
)
def test_torchvision_config_says_what_torchvision_builds(name):
    from torchvision.models import detection

    with torch.device("meta"):
        model = getattr(detection, name)(weights=None, weights_backbone=None)
    config = get_cfg(f"torchvision/{name}")
    transform, rpn, heads = model.transform, model.rpn, model.roi_heads
    assert config.MODEL.DIALECT == "torchvision"
    # of several sizes torchvision takes the last one at inference
    assert config.INPUT.MIN_SIZE_TEST == transform.min_size[-1]
    if config.MODEL.KEYPOINT_ON:
        assert config.INPUT.MIN_SIZE_TRAIN == transform.min_size
    assert config.INPUT.MAX_SIZE_TEST == transform.max_size
    assert config.INPUT.PIXEL_MEAN == transform.image_mean
    assert config.INPUT.PIXEL_STD == transform.image_std
    assert not config.INPUT.TO_BGR255
    assert config.DATALOADER.SIZE_DIVISIBILITY == transform.size_divisible
    assert build_anchor_generator(config).sizes == rpn.anchor_generator.sizes
    assert config.MODEL.RPN.SCORE_THRESH == rpn.score_thresh
    assert {config.MODEL.RPN.ASPECT_RATIOS} == set(rpn.anchor_generator.aspect_ratios)
    assert config.MODEL.RPN.NMS_THRESH == rpn.nms_thresh
    assert config.MODEL.RPN.MIN_SIZE == rpn.min_size
    assert config.MODEL.RPN.PRE_NMS_TOP_N_TEST == rpn._pre_nms_top_n["testing"]
    assert config.MODEL.RPN.PRE_NMS_TOP_N_TRAIN == rpn._pre_nms_top_n["training"]
    assert config.MODEL.RPN.FPN_POST_NMS_TOP_N_TEST == rpn._post_nms_top_n["testing"]
    assert config.MODEL.RPN.FPN_POST_NMS_TOP_N_TRAIN == rpn._post_nms_top_n["training"]
    # torchvision keeps these over all levels; no level of ours may keep fewer.
    assert config.MODEL.RPN.POST_NMS_TOP_N_TEST >= rpn._post_nms_top_n["testing"]
    assert config.MODEL.ROI_HEADS.SCORE_THRESH == heads.score_thresh
    assert config.MODEL.ROI_HEADS.NMS == heads.nms_thresh
    assert config.MODEL.ROI_HEADS.DETECTIONS_PER_IMG == heads.detections_per_img
    assert config.MODEL.ROI_HEADS.BBOX_REG_WEIGHTS == heads.box_coder.weights
    assert config.MODEL.ROI_BOX_HEAD.NUM_CLASSES == heads.box_predictor.cls_score.out_features
    linear = [layer for layer in heads.box_head.modules() if isinstance(layer, torch.nn.Linear)]
    assert config.MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM == linear[0].out_features
    assert (config.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION,) * 2 == heads.box_roi_pool.output_size
    assert config.MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO == heads.box_roi_pool.sampling_ratio
    if "resnet50" in name:
        assert model.backbone.body.layer2[0].conv1.stride == (1, 1)
        assert not config.MODEL.RESNETS.STRIDE_IN_1X1
    assert config.MODEL.RESNETS.BACKBONE_OUT_CHANNELS == model.backbone.out_channels
    assert config.MODEL.MASK_ON == heads.has_mask()
    if heads.has_mask():
        resolution = (config.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION,) * 2
        assert resolution == heads.mask_roi_pool.output_size
        sampling_ratio = config.MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO
        assert sampling_ratio == heads.mask_roi_pool.sampling_ratio
    assert config.MODEL.KEYPOINT_ON == heads.has_keypoint()
    if heads.has_keypoint():
        head, pooler = config.MODEL.ROI_KEYPOINT_HEAD, heads.keypoint_roi_pool
        assert (head.POOLER_RESOLUTION,) * 2 == pooler.output_size
        assert head.POOLER_SAMPLING_RATIO == pooler.sampling_ratio
        assert head.NUM_CLASSES == heads.keypoint_predictor.out_channels


_RETINANET = {
    "MODEL.RETINANET_ON": True,
    "MODEL.RPN_ONLY": True,
    "MODEL.RESNETS.BACKBONE_OUT_CHANNELS": 256,
    "MODEL.RETINANET.STRADDLE_THRESH": -1,
    "DATALOADER.SIZE_DIVISIBILITY": 32,
    "SOLVER.WEIGHT_DECAY": 1e-4,
    **COCO_2014,
}
_EIGHT_IMAGES = (8, 0.005, (120000, 160000), 180000)
_RETINANETS = {
    # name: (body, initial weights, images, learning rate, steps, iterations, other keys)
    "R-50-FPN_1x": ("R-50", "MSRA/R-50", *_EIGHT_IMAGES, {}),
    "R-101-FPN_1x": ("R-101", "MSRA/R-101", *_EIGHT_IMAGES, {}),
    "R-50-FPN_P5_1x": (
        *("R-50", "MSRA/R-50", *_EIGHT_IMAGES),
        {"MODEL.RETINANET.USE_C5": False},
    ),
    "R-101-FPN_P5_1x": (
        *("R-101", "MSRA/R-101", *_EIGHT_IMAGES),
        {"MODEL.RETINANET.USE_C5": False},
    ),
    "X_101_32x8d_FPN_1x": (
        *("R-101", "FAIR/20171220/X-101-32x8d", 4, 0.0025, (240000, 320000), 360000),
        RESNEXT,
    ),
    "R-50-FPN_1x_quick": (
        *("R-50", "MSRA/R-50", 4, 0.005, (3500,), 4000),
        {
            "INPUT.MIN_SIZE_TRAIN": (600,),
            "INPUT.MAX_SIZE_TRAIN": 1000,
            "INPUT.MIN_SIZE_TEST": 600,
            "INPUT.MAX_SIZE_TEST": 1000,
            "DATASETS.TRAIN": ("coco_2014_minival",),
        },
    ),
}


def _retinanet_changes(body, weights, images, rate, steps, iterations, others):
    return without_defaults(
        {
            **_RETINANET,
            "MODEL.BACKBONE.CONV_BODY": f"{body}-FPN-RETINANET",
            "MODEL.WEIGHT": f"catalog://ImageNetPretrained/{weights}",
            "SOLVER.BASE_LR": rate,
            "SOLVER.STEPS": steps,
            "SOLVER.MAX_ITER": iterations,
            "SOLVER.IMS_PER_BATCH": images,
            "SOLVER.REFERENCE_BATCH": images,
            **others,
        }
    )


@pytest.mark.parametrize("name", list(_RETINANETS))
def test_retinanet_of_maskrcnn_benchmark_resolves_to_its_published_values(name):
    assert changes_of(f"retinanet/retinanet_{name}") == _retinanet_changes(*_RETINANETS[name])


@pytest.mark.parametrize(
    ("body", "conv_body", "weights", "others"),
    [
        ("R-50", "R-50", "MSRA/R-50", {}),
        ("R-101", "R-101", "MSRA/R-101", {}),
        ("X-101-32x8d", "R-101", "FAIR/20171220/X-101-32x8d", RESNEXT),
        (
            *("X-101-64x4d", "R-101", "FBResNeXt/X-101-64x4d"),
            RESNEXT_64X4D,
        ),
    ],
)
@pytest.mark.parametrize("schedule", [1, 2])
def test_retinanet_of_detectron_resolves_to_its_published_values(
    body, conv_body, weights, others, schedule
):
    detectron = {
        "MODEL.RETINANET.BBOX_REG_WEIGHTS": (1, 1, 1, 1),
        "MODEL.RETINANET.NMS_TH": 0.5,
    }
    steps = (60000 * schedule, 80000 if schedule == 1 else 160000)
    expected = _retinanet_changes(
        *(conv_body, weights, 16, 0.01, steps, 90000 * schedule, detectron | others)
    )
    assert changes_of(f"detectron/retinanet_{body}-FPN_{schedule}x") == expected


@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2"])
def test_torchvision_config_says_which_retinanet_torchvision_builds(name):
    from torchvision.models import detection

    model = getattr(detection, name)(weights=None, weights_backbone=None)
    config = get_cfg(f"torchvision/{name}")
    keys, head = config.MODEL.RETINANET, model.head
    assert config.MODEL.DIALECT == "torchvision"
    assert config.INPUT.PIXEL_MEAN == model.transform.image_mean
    assert config.INPUT.PIXEL_STD == model.transform.image_std
    assert not config.INPUT.TO_BGR255
    assert config.INPUT.MIN_SIZE_TEST == model.transform.min_size[-1]
    assert config.INPUT.MAX_SIZE_TEST == model.transform.max_size
    assert config.DATALOADER.SIZE_DIVISIBILITY == model.transform.size_divisible
    assert keys.NUM_CLASSES == head.classification_head.num_classes
    assert tuple(sizes[0] for sizes in model.anchor_generator.sizes) == keys.ANCHOR_SIZES
    assert {keys.ASPECT_RATIOS} == set(model.anchor_generator.aspect_ratios)
    assert keys.INFERENCE_TH == model.score_thresh
    assert keys.NMS_TH == model.nms_thresh
    assert keys.PRE_NMS_TOP_N == model.topk_candidates
    assert config.TEST.DETECTIONS_PER_IMG == model.detections_per_img
    matcher = model.proposal_matcher
    assert keys.FG_IOU_THRESHOLD == matcher.high_threshold
    assert keys.BG_IOU_THRESHOLD == matcher.low_threshold
    assert keys.BBOX_REG_WEIGHTS == head.regression_head.box_coder.weights
    losses = {"l1": ("smooth_l1", 0), "giou": ("giou", 0)}
    assert losses[head.regression_head._loss_type] == (keys.BBOX_REG_LOSS, keys.BBOX_REG_BETA)
    assert keys.USE_C5 == (not model.backbone.fpn.extra_blocks.use_P5)


@pytest.mark.parametrize("kind", ["faster", "mask"])
def test_fbnet_config_says_what_d2go_built(kind):
    config = get_cfg(f"d2go/{kind}_rcnn_fbnetv3a_C4")
    assert config.MODEL.DIALECT == "d2go"
    assert config.MODEL.MASK_ON == (kind == "mask")
    assert (config.INPUT.MIN_SIZE_TEST, config.INPUT.MAX_SIZE_TEST) == (320, 0)
    assert config.INPUT.TO_BGR255
    assert config.INPUT.PIXEL_MEAN == [103.53, 116.28, 123.675]
    assert config.INPUT.PIXEL_STD == [1, 1, 1]
    assert config.DATALOADER.SIZE_DIVISIBILITY == 0
    assert config.MODEL.RESNETS.BACKBONE_OUT_CHANNELS == 112
    rpn, heads = config.MODEL.RPN, config.MODEL.ROI_HEADS
    assert not rpn.USE_FPN
    assert rpn.ANCHOR_STRIDE == (16,)
    assert (rpn.PRE_NMS_TOP_N_TEST, rpn.POST_NMS_TOP_N_TEST, rpn.NMS_THRESH) == (1000, 30, 0.7)
    assert (heads.SCORE_THRESH, heads.NMS, heads.DETECTIONS_PER_IMG) == (0.05, 0.5, 100)
    assert heads.BBOX_REG_WEIGHTS == (10, 10, 5, 5)
    box, mask = config.MODEL.ROI_BOX_HEAD, config.MODEL.ROI_MASK_HEAD
    assert (box.POOLER_RESOLUTION, box.POOLER_SAMPLING_RATIO, box.POOLER_SCALES) == (
        6,
        0,
        (1 / 16,),
    )
    assert (mask.POOLER_RESOLUTION, mask.POOLER_SAMPLING_RATIO) == (14, 0)
    assert mask.POOLER_SCALES == (1 / 16,)
    assert mask.RESOLUTION == 28
    assert box.NUM_CLASSES == 81


@pytest.mark.data
def test_fbnet_anchors_of_the_file_follow_sizes_then_ratios(test_data):
    import torch

    state = torch.load(test_data / "weights" / "mask_rcnn_fbnetv3a_float.pth", weights_only=True)
    rpn = get_cfg("d2go/mask_rcnn_fbnetv3a_C4").MODEL.RPN
    expected = torch.tensor(
        [
            [
                -size / ratio**0.5 / 2,
                -size * ratio**0.5 / 2,
                size / ratio**0.5 / 2,
                size * ratio**0.5 / 2,
            ]
            for size in rpn.ANCHOR_SIZES
            for ratio in rpn.ASPECT_RATIOS
        ]
    )
    # float32 rounding of values below 128
    torch.testing.assert_close(
        state["proposal_generator.anchor_generator.cell_anchors.0"], expected, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("name", list_configs())
def test_config_names_weights_and_data_that_the_catalogs_know(name):
    config = get_cfg(name)
    for dataset in (*config.DATASETS.TRAIN, *config.DATASETS.TEST):
        assert DatasetCatalog.get(dataset)["args"]
    if not config.MODEL.WEIGHT:
        assert "scratch" in name or "fbnet" in name
        keys = config.MODEL.BACKBONE
        assert keys.FREEZE_CONV_BODY_AT == 0 or keys.CONV_BODY == "FBNet"  # which freezes nothing
        return
    if config.MODEL.WEIGHT.startswith("timm://"):
        pytest.importorskip("timm")
    entry = find_library_entry(config.MODEL.WEIGHT)
    if entry is None:
        entry = ModelCatalog.entry(config.MODEL.WEIGHT.removeprefix("catalog://"))
    if name.split("/")[0] not in _BEGIN_WITH_OTHERS:
        assert entry.config in ("", name)
        assert ModelCatalog.for_config(name) or name.startswith(_WITHOUT_WEIGHTS)


@pytest.mark.parametrize("name", list_configs())
def test_config_is_short_because_it_inherits(name):
    path = config_path(name)
    assert len(path.read_text().splitlines()) <= 12
    assert "_BASE_" in yaml.safe_load(path.read_text())
