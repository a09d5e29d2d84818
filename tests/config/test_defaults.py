"""Defaults against maskrcnn-benchmark's published table, and that each one is explained."""

import io
import tokenize
from pathlib import Path

import pytest

from maskrcnn_lib.config import cfg, defaults, get_cfg

_SIXTEENTH = (1.0 / 16,)

# maskrcnn-benchmark's defaults.py, by section.
_MASKRCNN_BENCHMARK = {
    "MODEL": {
        "RPN_ONLY": False,
        "MASK_ON": False,
        "RETINANET_ON": False,
        "KEYPOINT_ON": False,
        "DEVICE": "cuda",
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "CLS_AGNOSTIC_BBOX_REG": False,
        "WEIGHT": "",
    },
    "INPUT": {
        "MIN_SIZE_TRAIN": (800,),
        "MAX_SIZE_TRAIN": 1333,
        "MIN_SIZE_TEST": 800,
        "MAX_SIZE_TEST": 1333,
        "PIXEL_MEAN": [102.9801, 115.9465, 122.7717],
        "PIXEL_STD": [1, 1, 1],
        "TO_BGR255": True,
        "BRIGHTNESS": 0,
        "CONTRAST": 0,
        "SATURATION": 0,
        "HUE": 0,
        "HORIZONTAL_FLIP_PROB_TRAIN": 0.5,
        "VERTICAL_FLIP_PROB_TRAIN": 0,
    },
    "DATASETS": {"TRAIN": (), "TEST": ()},
    "DATALOADER": {"NUM_WORKERS": 4, "SIZE_DIVISIBILITY": 0, "ASPECT_RATIO_GROUPING": True},
    "MODEL.BACKBONE": {"CONV_BODY": "R-50-C4", "FREEZE_CONV_BODY_AT": 2},
    "MODEL.FPN": {"USE_GN": False, "USE_RELU": False},
    "MODEL.GROUP_NORM": {"DIM_PER_GP": -1, "NUM_GROUPS": 32, "EPSILON": 1e-5},
    "MODEL.RPN": {
        "USE_FPN": False,
        "ANCHOR_SIZES": (32, 64, 128, 256, 512),
        "ANCHOR_STRIDE": (16,),
        "ASPECT_RATIOS": (0.5, 1, 2),
        "STRADDLE_THRESH": 0,
        "FG_IOU_THRESHOLD": 0.7,
        "BG_IOU_THRESHOLD": 0.3,
        "BATCH_SIZE_PER_IMAGE": 256,
        "POSITIVE_FRACTION": 0.5,
        "PRE_NMS_TOP_N_TRAIN": 12000,
        "PRE_NMS_TOP_N_TEST": 6000,
        "POST_NMS_TOP_N_TRAIN": 2000,
        "POST_NMS_TOP_N_TEST": 1000,
        "NMS_THRESH": 0.7,
        "MIN_SIZE": 0,
        "FPN_POST_NMS_TOP_N_TRAIN": 2000,
        "FPN_POST_NMS_TOP_N_TEST": 2000,
        "FPN_POST_NMS_PER_BATCH": True,
        "RPN_HEAD": "SingleConvRPNHead",
    },
    "MODEL.ROI_HEADS": {
        "USE_FPN": False,
        "FG_IOU_THRESHOLD": 0.5,
        "BG_IOU_THRESHOLD": 0.5,
        "BBOX_REG_WEIGHTS": (10, 10, 5, 5),
        "BATCH_SIZE_PER_IMAGE": 512,
        "POSITIVE_FRACTION": 0.25,
        "SCORE_THRESH": 0.05,
        "NMS": 0.5,
        "DETECTIONS_PER_IMG": 100,
    },
    "MODEL.ROI_BOX_HEAD": {
        "FEATURE_EXTRACTOR": "ResNet50Conv5ROIFeatureExtractor",
        "PREDICTOR": "FastRCNNPredictor",
        "POOLER_RESOLUTION": 14,
        "POOLER_SAMPLING_RATIO": 0,
        "POOLER_SCALES": _SIXTEENTH,
        "NUM_CLASSES": 81,
        "MLP_HEAD_DIM": 1024,
        "USE_GN": False,
        "DILATION": 1,
        "CONV_HEAD_DIM": 256,
        "NUM_STACKED_CONVS": 4,
    },
    "MODEL.ROI_MASK_HEAD": {
        "FEATURE_EXTRACTOR": "ResNet50Conv5ROIFeatureExtractor",
        "PREDICTOR": "MaskRCNNC4Predictor",
        "POOLER_RESOLUTION": 14,
        "POOLER_SAMPLING_RATIO": 0,
        "POOLER_SCALES": _SIXTEENTH,
        "MLP_HEAD_DIM": 1024,
        "CONV_LAYERS": (256,) * 4,
        "RESOLUTION": 14,
        "SHARE_BOX_FEATURE_EXTRACTOR": True,
        "POSTPROCESS_MASKS": False,
        "POSTPROCESS_MASKS_THRESHOLD": 0.5,
        "DILATION": 1,
        "USE_GN": False,
    },
    "MODEL.ROI_KEYPOINT_HEAD": {
        "FEATURE_EXTRACTOR": "KeypointRCNNFeatureExtractor",
        "PREDICTOR": "KeypointRCNNPredictor",
        "POOLER_RESOLUTION": 14,
        "POOLER_SAMPLING_RATIO": 0,
        "POOLER_SCALES": _SIXTEENTH,
        "MLP_HEAD_DIM": 1024,
        "CONV_LAYERS": (512,) * 8,
        "RESOLUTION": 14,
        "NUM_CLASSES": 17,
        "SHARE_BOX_FEATURE_EXTRACTOR": True,
    },
    "MODEL.RESNETS": {
        "NUM_GROUPS": 1,
        "WIDTH_PER_GROUP": 64,
        "STRIDE_IN_1X1": True,
        "TRANS_FUNC": "BottleneckWithFixedBatchNorm",
        "STEM_FUNC": "StemWithFixedBatchNorm",
        "RES5_DILATION": 1,
        "BACKBONE_OUT_CHANNELS": 1024,
        "RES2_OUT_CHANNELS": 256,
        "STEM_OUT_CHANNELS": 64,
        "STAGE_WITH_DCN": (False,) * 4,
        "WITH_MODULATED_DCN": False,
        "DEFORMABLE_GROUPS": 1,
    },
    "MODEL.RETINANET": {
        "NUM_CLASSES": 81,
        "ANCHOR_SIZES": (32, 64, 128, 256, 512),
        "ASPECT_RATIOS": (0.5, 1, 2),
        "ANCHOR_STRIDES": (8, 16, 32, 64, 128),
        "STRADDLE_THRESH": 0,
        "OCTAVE": 2.0,
        "SCALES_PER_OCTAVE": 3,
        "USE_C5": True,
        "NUM_CONVS": 4,
        "BBOX_REG_WEIGHT": 4.0,
        "BBOX_REG_BETA": 0.11,
        "PRE_NMS_TOP_N": 1000,
        "FG_IOU_THRESHOLD": 0.5,
        "BG_IOU_THRESHOLD": 0.4,
        "LOSS_ALPHA": 0.25,
        "LOSS_GAMMA": 2.0,
        "PRIOR_PROB": 0.01,
        "INFERENCE_TH": 0.05,
        "NMS_TH": 0.4,
    },
    "MODEL.FBNET": {
        "ARCH": "default",
        "ARCH_DEF": "",
        "BN_TYPE": "bn",
        "SCALE_FACTOR": 1.0,
        "WIDTH_DIVISOR": 1,
        "DW_CONV_SKIP_BN": True,
        "DW_CONV_SKIP_RELU": True,
        "DET_HEAD_LAST_SCALE": 1.0,
        "DET_HEAD_BLOCKS": [],
        "DET_HEAD_STRIDE": 0,
        "KPTS_HEAD_LAST_SCALE": 0.0,
        "KPTS_HEAD_BLOCKS": [],
        "KPTS_HEAD_STRIDE": 0,
        "MASK_HEAD_LAST_SCALE": 0.0,
        "MASK_HEAD_BLOCKS": [],
        "MASK_HEAD_STRIDE": 0,
        "RPN_HEAD_BLOCKS": 0,
        "RPN_BN_TYPE": "",
    },
    "SOLVER": {
        "MAX_ITER": 40000,
        "BASE_LR": 0.001,
        "BIAS_LR_FACTOR": 2,
        "MOMENTUM": 0.9,
        "WEIGHT_DECAY": 0.0005,
        "WEIGHT_DECAY_BIAS": 0,
        "GAMMA": 0.1,
        "STEPS": (30000,),
        "WARMUP_FACTOR": 1 / 3,
        "WARMUP_ITERS": 500,
        "WARMUP_METHOD": "linear",
        "CHECKPOINT_PERIOD": 2500,
        "TEST_PERIOD": 0,
        "IMS_PER_BATCH": 16,
    },
    "TEST": {
        "EXPECTED_RESULTS": [],
        "EXPECTED_RESULTS_SIGMA_TOL": 4,
        "IMS_PER_BATCH": 8,
        "DETECTIONS_PER_IMG": 100,
    },
    "TEST.BBOX_AUG": {
        "ENABLED": False,
        "H_FLIP": False,
        "SCALES": (),
        "MAX_SIZE": 4000,
        "SCALE_H_FLIP": False,
    },
    "": {
        "OUTPUT_DIR": ".",
        "PATHS_CATALOG": "paths_catalog.py",
        "DTYPE": "float32",
        "AMP_VERBOSE": False,
    },
}
_DELIBERATELY_DIFFERENT = {"MODEL.DEVICE": "auto", "PATHS_CATALOG": ""}
_OF_OTHER_AUGMENTATIONS = (
    "ENABLED",
    "HEUR",
    "H_FLIP",
    "SCALES",
    "MAX_SIZE",
    "SCALE_H_FLIP",
    "ASPECT_RATIOS",
    "ASPECT_RATIO_H_FLIP",
)
_OURS = {
    "INPUT.MIN_SIZE_TRAIN_SAMPLING",
    "INPUT.CROP.PROB",
    "INPUT.CROP.MIN_SHARE",
    "INPUT.LSJ.ENABLED",
    "INPUT.LSJ.SIZE",
    "INPUT.LSJ.SCALES",
    "INPUT.COPY_PASTE.PROB",
    "INPUT.COPY_PASTE.SCALES",
    "DATASETS.PROPOSAL_FILES_TRAIN",
    "DATASETS.PROPOSAL_FILES_TEST",
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN",
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST",
    "MODEL.LOAD_PROPOSALS",
    "MODEL.RFCN.PS_GRID_SIZE",
    "MODEL.RFCN.ALIGN",
    "MODEL.RFCN.REDUCED_CHANNELS",
    "DATALOADER.ON_BAD_IMAGE",
    "DATALOADER.SAMPLER",
    "DATALOADER.REPEAT_THRESHOLD",
    "MODEL.DIALECT",
    "DATALOADER.KEEP_EMPTY",
    "DATALOADER.PAD_TO",
    "MODEL.COMPILE",
    "MODEL.CUDA_GRAPHS",
    "MODEL.NORM",
    "MODEL.FPN.NORM",
    "MODEL.BACKBONE.OUT_LAYERS",
    "MODEL.ROI_BOX_HEAD.NORM",
    "MODEL.ROI_MASK_HEAD.NORM",
    "MODEL.RPN.CONV_DIM",
    "MODEL.RPN.NUM_CONVS",
    "MODEL.RPN.SCORE_THRESH",
    "MODEL.RETINANET.USE_GN",
    "MODEL.RETINANET.BBOX_REG_WEIGHTS",
    "MODEL.RETINANET.BBOX_REG_LOSS",
    "INPUT.SHIFT.PROB",
    "INPUT.SHIFT.PIXELS",
    "MODEL.YOLOF.NUM_CLASSES",
    "MODEL.YOLOF.NORM",
    "MODEL.YOLOF.ENCODER_WIDTH",
    "MODEL.YOLOF.ENCODER_DILATIONS",
    "MODEL.YOLOF.NUM_CLS_CONVS",
    "MODEL.YOLOF.NUM_REG_CONVS",
    "MODEL.YOLOF.ANCHOR_SIZES",
    "MODEL.YOLOF.ANCHOR_STRIDE",
    "MODEL.YOLOF.LARGEST_SHIFT",
    "MODEL.YOLOF.MATCHES",
    "MODEL.YOLOF.MIN_ANCHOR_IOU",
    "MODEL.YOLOF.MAX_BACKGROUND_IOU",
    "MODEL.YOLOF.LOSS_ALPHA",
    "MODEL.YOLOF.LOSS_GAMMA",
    "MODEL.YOLOF.PRIOR_PROB",
    "MODEL.YOLOF.PRE_NMS_TOP_N",
    "MODEL.YOLOF.INFERENCE_TH",
    "MODEL.YOLOF.NMS_TH",
    "SOLVER.BODY_LR_FACTOR",
    "SOLVER.REFERENCE_BATCH",
    "SOLVER.OPTIMIZER",
    "SOLVER.SCHEDULE",
    "SOLVER.SCHEDULE_NAME",
    "SOLVER.MAX_EPOCH",
    "SOLVER.CLIP_GRADIENTS",
    "SOLVER.ACCUMULATE",
    "SOLVER.EMA_DECAY",
    "SOLVER.WEIGHT_DECAY_NORM",
    "SOLVER.KEEP_CHECKPOINTS",
    "SOLVER.LOG_PERIOD",
    "MODEL.RPN.SMOOTH_L1_BETA",
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA",
    "MODEL.ROI_HEADS.HARDEST_REGIONS",
    "MODEL.MASKIOU_ON",
    "MODEL.ROI_MASK_HEAD.POINT_HEAD_ON",
    "MODEL.POINT_HEAD.NUM_FC",
    "MODEL.POINT_HEAD.FC_DIM",
    "MODEL.POINT_HEAD.TRAIN_NUM_POINTS",
    "MODEL.POINT_HEAD.OVERSAMPLE_RATIO",
    "MODEL.POINT_HEAD.IMPORTANCE_SAMPLE_RATIO",
    "MODEL.POINT_HEAD.SUBDIVISION_STEPS",
    "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS",
    "MODEL.ROI_BOX_CASCADE_HEAD.IOUS",
    "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS",
    "MODEL.ROI_BOX_CASCADE_HEAD.LOSS_WEIGHTS",
    "MODEL.ROI_BOX_CASCADE_HEAD.FEATURE_GRADIENT",
    "MODEL.ROI_BOX_CASCADE_HEAD.MASK_PER_STAGE",
    "TEST.KEYPOINT_OKS_SIGMAS",
    "TEST.SOFT_NMS.ENABLED",
    "TEST.SOFT_NMS.METHOD",
    "TEST.SOFT_NMS.SIGMA",
    "TEST.SOFT_NMS.MIN_SCORE",
    "TEST.BBOX_VOTE.ENABLED",
    "TEST.BBOX_VOTE.VOTE_TH",
    "TEST.BBOX_VOTE.SCORING_METHOD",
    "TEST.BBOX_VOTE.SCORING_METHOD_BETA",
    "TEST.BBOX_AUG.ASPECT_RATIOS",
    "TEST.BBOX_AUG.ASPECT_RATIO_H_FLIP",
    "TEST.BBOX_AUG.SCORE_HEUR",
    "TEST.BBOX_AUG.COORD_HEUR",
    *(
        f"TEST.{section}.{key}"
        for section in ("MASK_AUG", "KPS_AUG")
        for key in _OF_OTHER_AUGMENTATIONS
    ),
    "TEST.KPS_AUG.SCALE_SIZE_DEP",
    "TEST.KPS_AUG.AREA_TH",
    "MODEL.ROI_KEYPOINT_HEAD.NAMES",
    "MODEL.ROI_KEYPOINT_HEAD.CONNECTIONS",
    "SEED",
    "DETERMINISTIC",
}


def _published() -> dict[str, object]:
    return {
        f"{section}.{key}" if section else key: value
        for section, keys in _MASKRCNN_BENCHMARK.items()
        for key, value in keys.items()
    }


def test_defaults_are_those_of_maskrcnn_benchmark():
    expected = _published() | _DELIBERATELY_DIFFERENT
    ours = {key: value for key, value in get_cfg().flat().items() if key not in _OURS}
    assert ours == expected


@pytest.mark.parametrize("key", sorted(_published()))
def test_value_of_maskrcnn_benchmark_is_accepted(key):
    fresh = get_cfg()
    fresh.merge_from_list([key, _published()[key]])
    assert fresh.flat()[key] == _published()[key]


def test_every_key_is_explained_on_its_line():
    source = Path(defaults.__file__).read_text()
    comments = {
        token.start[0]: token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    explained = {
        line.split(" = ")[0].removeprefix("_C."): comments.get(number, "")
        for number, line in enumerate(source.splitlines(), start=1)
        if line.startswith("_C.") and not line.endswith("CN()")
    }
    assert explained.keys() == get_cfg().flat().keys()
    assert [key for key, comment in explained.items() if len(comment) < 6] == []


def test_fresh_configs_share_nothing_with_each_other_or_with_the_global_one():
    first, second = get_cfg(), get_cfg()
    first.MODEL.MASK_ON = True
    first.INPUT.PIXEL_MEAN[0] = 0.0
    assert not second.MODEL.MASK_ON
    assert not cfg.MODEL.MASK_ON
    assert second.INPUT.PIXEL_MEAN[0] == cfg.INPUT.PIXEL_MEAN[0] == 102.9801
    assert not second.is_frozen()
