"""What maskrcnn-benchmark's configs say, from its tables, and how a config is held against it."""

from maskrcnn_lib.config import get_cfg

BENCHMARK = {
    # name: (body, initial weights, images per batch, learning rate, steps, iterations)
    "R_50_C4": ("R-50-C4", "MSRA/R-50", 8, 0.01, (120000, 160000), 180000),
    "R_50_FPN": ("R-50-FPN", "MSRA/R-50", 16, 0.02, (60000, 80000), 90000),
    "R_101_FPN": ("R-101-FPN", "MSRA/R-101", 16, 0.02, (60000, 80000), 90000),
    "X_101_32x8d_FPN": (
        "R-101-FPN",
        "FAIR/20171220/X-101-32x8d",
        8,
        0.01,
        (120000, 160000),
        180000,
    ),
}
FPN = {
    "MODEL.RESNETS.BACKBONE_OUT_CHANNELS": 256,
    "MODEL.RPN.USE_FPN": True,
    "MODEL.RPN.ANCHOR_STRIDE": (4, 8, 16, 32, 64),
    "MODEL.RPN.PRE_NMS_TOP_N_TRAIN": 2000,
    "MODEL.RPN.PRE_NMS_TOP_N_TEST": 1000,
    "MODEL.RPN.POST_NMS_TOP_N_TEST": 1000,
    "MODEL.RPN.FPN_POST_NMS_TOP_N_TEST": 1000,
    "MODEL.ROI_HEADS.USE_FPN": True,
    "MODEL.ROI_BOX_HEAD.FEATURE_EXTRACTOR": "FPN2MLPFeatureExtractor",
    "MODEL.ROI_BOX_HEAD.PREDICTOR": "FPNPredictor",
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 2,
    "MODEL.ROI_BOX_HEAD.POOLER_SCALES": (1 / 4, 1 / 8, 1 / 16, 1 / 32),
    "MODEL.ROI_MASK_HEAD.FEATURE_EXTRACTOR": "MaskRCNNFPNFeatureExtractor",
    "MODEL.ROI_MASK_HEAD.PREDICTOR": "MaskRCNNC4Predictor",
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 14,
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": 2,
    "MODEL.ROI_MASK_HEAD.POOLER_SCALES": (1 / 4, 1 / 8, 1 / 16, 1 / 32),
    "MODEL.ROI_MASK_HEAD.RESOLUTION": 28,
    "MODEL.ROI_MASK_HEAD.SHARE_BOX_FEATURE_EXTRACTOR": False,
    "DATALOADER.SIZE_DIVISIBILITY": 32,
}
RESNEXT = {
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.RESNETS.NUM_GROUPS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
}
RESNEXT_64X4D = RESNEXT | {
    "MODEL.RESNETS.NUM_GROUPS": 64,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
}
COCO_2014 = {
    "DATASETS.TRAIN": ("coco_2014_train", "coco_2014_valminusminival"),
    "DATASETS.TEST": ("coco_2014_minival",),
}


def changes_of(name):
    """What a config sets differently from the defaults."""
    return without_defaults(get_cfg(name).flat())


def without_defaults(values):
    """Those of ``values`` that are not the defaults."""
    defaults = get_cfg().flat()
    return {key: value for key, value in values.items() if value != defaults[key]}


def schedule(images, rate, steps, iterations):
    """Training at ``images`` per iteration; the rate falls at ``steps``."""
    return {
        "SOLVER.BASE_LR": rate,
        "SOLVER.WEIGHT_DECAY": 1e-4,
        "SOLVER.STEPS": steps,
        "SOLVER.MAX_ITER": iterations,
        "SOLVER.IMS_PER_BATCH": images,
        "SOLVER.REFERENCE_BATCH": images,
    }


def benchmark_changes(kind, body):
    """maskrcnn-benchmark's "faster" or "mask" R-CNN on one of ``BENCHMARK``."""
    conv_body, weights, *numbers = BENCHMARK[body]
    return without_defaults(
        {
            "MODEL.MASK_ON": kind == "mask",
            "MODEL.WEIGHT": f"catalog://ImageNetPretrained/{weights}",
            "MODEL.BACKBONE.CONV_BODY": conv_body,
            **schedule(*numbers),
            **COCO_2014,
            **(FPN if "FPN" in body else {}),
            **(RESNEXT if body.startswith("X") else {}),
        }
    )


def keypoint_changes():
    """maskrcnn-benchmark's Keypoint R-CNN beside its Faster R-CNN."""
    return benchmark_changes("faster", "R_50_FPN") | {
        "MODEL.KEYPOINT_ON": True,
        "MODEL.ROI_BOX_HEAD.NUM_CLASSES": 2,
        "MODEL.ROI_KEYPOINT_HEAD.POOLER_SAMPLING_RATIO": 2,
        "MODEL.ROI_KEYPOINT_HEAD.POOLER_SCALES": (1 / 4, 1 / 8, 1 / 16, 1 / 32),
        "MODEL.ROI_KEYPOINT_HEAD.RESOLUTION": 56,
        "MODEL.ROI_KEYPOINT_HEAD.SHARE_BOX_FEATURE_EXTRACTOR": False,
        "INPUT.MIN_SIZE_TRAIN": (640, 672, 704, 736, 768, 800),
        "DATASETS.TRAIN": (
            "keypoints_coco_2014_train",
            "keypoints_coco_2014_valminusminival",
        ),
        "DATASETS.TEST": ("keypoints_coco_2014_minival",),
    }
