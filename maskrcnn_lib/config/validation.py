"""Checks of what values mean together, which types alone cannot say."""

from collections.abc import Iterator
from itertools import pairwise

from maskrcnn_lib.config.architecture import (
    is_cascade,
    is_one_stage,
    library_body,
    only_proposes,
)
from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.config.mask_checks import check_masks
from maskrcnn_lib.config.node import CfgNode

DTYPES = ("float32", "bfloat16", "float16")
_DATA_NAMES = {
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice", "range"),
    "DATALOADER.ON_BAD_IMAGE": ("raise", "skip"),
    "DATALOADER.SAMPLER": ("", "repeat_factor"),
}
_MODEL_NAMES = {
    "MODEL.RETINANET.BBOX_REG_LOSS": ("smooth_l1", "giou"),
    "MODEL.YOLOF.NORM": ("frozen", "batch", "sync", "group"),
    "TEST.SOFT_NMS.METHOD": ("hard", "linear", "gaussian"),
    "TEST.BBOX_VOTE.SCORING_METHOD": (
        "ID",
        "TEMP_AVG",
        "AVG",
        "IOU_AVG",
        "GENERALIZED_AVG",
        "QUASI_SUM",
    ),
    "TEST.MASK_AUG.HEUR": ("SOFT_AVG", "SOFT_MAX", "LOGIT_AVG"),
    "TEST.KPS_AUG.HEUR": ("HM_AVG", "HM_MAX"),
}
_SOLVER_NAMES = {
    "WARMUP_METHOD": ("linear", "constant"),
    "OPTIMIZER": ("SGD", "ADAMW"),
    "SCHEDULE": ("multistep", "cosine"),
    "SCHEDULE_NAME": ("", "1x", "s1x", "2x", "3x"),
}

# Keys that hold a probability, an IoU or a share.
_UNIT_INTERVAL = (
    "INPUT.HORIZONTAL_FLIP_PROB_TRAIN",
    "INPUT.VERTICAL_FLIP_PROB_TRAIN",
    "INPUT.CROP.PROB",
    "INPUT.CROP.MIN_SHARE",
    "INPUT.SHIFT.PROB",
    "INPUT.COPY_PASTE.PROB",
    "DATALOADER.REPEAT_THRESHOLD",
    "MODEL.RPN.FG_IOU_THRESHOLD",
    "MODEL.RPN.BG_IOU_THRESHOLD",
    "MODEL.RPN.POSITIVE_FRACTION",
    "MODEL.RPN.NMS_THRESH",
    "MODEL.RPN.SCORE_THRESH",
    "MODEL.ROI_HEADS.FG_IOU_THRESHOLD",
    "MODEL.ROI_HEADS.BG_IOU_THRESHOLD",
    "MODEL.ROI_HEADS.POSITIVE_FRACTION",
    "MODEL.ROI_HEADS.SCORE_THRESH",
    "MODEL.ROI_HEADS.NMS",
    "MODEL.ROI_MASK_HEAD.POSTPROCESS_MASKS_THRESHOLD",
    "MODEL.RETINANET.FG_IOU_THRESHOLD",
    "MODEL.RETINANET.BG_IOU_THRESHOLD",
    "MODEL.RETINANET.PRIOR_PROB",
    "MODEL.RETINANET.INFERENCE_TH",
    "MODEL.RETINANET.NMS_TH",
    "MODEL.YOLOF.MIN_ANCHOR_IOU",
    "MODEL.YOLOF.MAX_BACKGROUND_IOU",
    "MODEL.YOLOF.PRIOR_PROB",
    "MODEL.YOLOF.INFERENCE_TH",
    "MODEL.YOLOF.NMS_TH",
    "SOLVER.WARMUP_FACTOR",
    "TEST.SOFT_NMS.MIN_SCORE",
    "TEST.BBOX_VOTE.VOTE_TH",
    "MODEL.POINT_HEAD.IMPORTANCE_SAMPLE_RATIO",
)
_AT_LEAST_ONE = (
    "INPUT.LSJ.SIZE",
    "INPUT.MIN_SIZE_TEST",
    "SOLVER.MAX_ITER",
    "SOLVER.IMS_PER_BATCH",
    "SOLVER.ACCUMULATE",
    "SOLVER.LOG_PERIOD",
    "TEST.IMS_PER_BATCH",
    "MODEL.RPN.NUM_CONVS",
    "MODEL.RPN.PRE_NMS_TOP_N_TRAIN",
    "MODEL.RPN.PRE_NMS_TOP_N_TEST",
    "MODEL.RPN.POST_NMS_TOP_N_TRAIN",
    "MODEL.RPN.POST_NMS_TOP_N_TEST",
    "MODEL.RPN.FPN_POST_NMS_TOP_N_TRAIN",
    "MODEL.RPN.FPN_POST_NMS_TOP_N_TEST",
    "MODEL.RFCN.PS_GRID_SIZE",
    "MODEL.POINT_HEAD.NUM_FC",
    "MODEL.POINT_HEAD.FC_DIM",
    "MODEL.POINT_HEAD.TRAIN_NUM_POINTS",
    "MODEL.POINT_HEAD.OVERSAMPLE_RATIO",
    "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS",
    "MODEL.YOLOF.MATCHES",
)
_NOT_NEGATIVE = (
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN",
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST",
    "INPUT.MAX_SIZE_TRAIN",
    "INPUT.MAX_SIZE_TEST",
    "INPUT.SHIFT.PIXELS",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.SIZE_DIVISIBILITY",
    "MODEL.RPN.MIN_SIZE",
    "MODEL.RFCN.REDUCED_CHANNELS",
    "MODEL.POINT_HEAD.SUBDIVISION_STEPS",
    "MODEL.YOLOF.LARGEST_SHIFT",
    "SOLVER.BODY_LR_FACTOR",
    "SOLVER.REFERENCE_BATCH",
    "SOLVER.MAX_EPOCH",
    "SOLVER.CLIP_GRADIENTS",
    "SOLVER.KEEP_CHECKPOINTS",
    "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.TEST_PERIOD",
    "SOLVER.WARMUP_ITERS",
    "TEST.BBOX_AUG.MAX_SIZE",
    "TEST.MASK_AUG.MAX_SIZE",
    "TEST.KPS_AUG.MAX_SIZE",
    "TEST.KPS_AUG.AREA_TH",
)
# Keys that are accepted and not followed, with the value that asks for nothing.
_NOT_FOLLOWED = {
    "MODEL.ROI_MASK_HEAD.POSTPROCESS_MASKS": False,
}
# The same of models without RoI heads.
_NOT_FOLLOWED_WITHOUT_HEADS = {
    "MODEL.MASK_ON": False,
    "MODEL.KEYPOINT_ON": False,
    "TEST.SOFT_NMS.ENABLED": False,
    "TEST.BBOX_VOTE.ENABLED": False,
    "TEST.MASK_AUG.ENABLED": False,
    "TEST.KPS_AUG.ENABLED": False,
}
# The same of models that only propose.
_NOT_FOLLOWED_BY_PROPOSERS = {"TEST.BBOX_AUG.ENABLED": False}
_AUGMENTATIONS = ("BBOX_AUG", "MASK_AUG", "KPS_AUG")
_HEADS = ("ROI_BOX_HEAD", "ROI_MASK_HEAD", "ROI_KEYPOINT_HEAD")


def validate(cfg: CfgNode) -> None:
    """Raises one ValueError that lists every value which cannot be meant."""
    problems = [
        *_check_names(cfg),
        *_check_ranges(cfg),
        *_check_input(cfg),
        *_check_choices(cfg),
        *_check_anchors(cfg),
        *_check_heads(cfg),
        *(_check_cascade(cfg) if is_cascade(cfg) else ()),
        *_check_schedule(cfg),
        *_check_proposals(cfg),
        *_check_augmentation(cfg),
    ]
    if problems:
        raise ValueError("config cannot be used:\n" + "\n".join(f"  - {line}" for line in problems))


def keys_not_followed(cfg: CfgNode) -> list[str]:
    """Keys that ask for something which this version does not do."""
    flat = cfg.flat()
    keys = dict(_NOT_FOLLOWED)
    if is_one_stage(cfg) or only_proposes(cfg):
        keys |= _NOT_FOLLOWED_WITHOUT_HEADS
    if only_proposes(cfg):
        keys |= _NOT_FOLLOWED_BY_PROPOSERS
    return [key for key, nothing in keys.items() if flat[key] != nothing]


def _check_names(cfg: CfgNode) -> Iterator[str]:
    try:
        get_dialect(cfg.MODEL.DIALECT)
    except ValueError as error:
        yield str(error)
    if cfg.DTYPE not in DTYPES:
        yield f"DTYPE {cfg.DTYPE!r} is unknown; choose one of {list(DTYPES)}"
    if cfg.MODEL.RETINANET_ON and not cfg.MODEL.RPN_ONLY:
        yield "MODEL.RETINANET_ON needs MODEL.RPN_ONLY True: RetinaNet has no RoI heads"
    groups = cfg.MODEL.GROUP_NORM
    if (groups.DIM_PER_GP == -1) == (groups.NUM_GROUPS == -1):
        yield (
            "exactly one of MODEL.GROUP_NORM.DIM_PER_GP and NUM_GROUPS must be -1, but they are "
            f"{groups.DIM_PER_GP} and {groups.NUM_GROUPS}"
        )


def _check_ranges(cfg: CfgNode) -> Iterator[str]:
    flat = cfg.flat()
    for key in _UNIT_INTERVAL:
        if not 0 <= flat[key] <= 1:
            yield f"{key} must lie within 0 and 1, but is {flat[key]}"
    for key in _AT_LEAST_ONE:
        if flat[key] < 1:
            yield f"{key} must be at least 1, but is {flat[key]}"
    if not cfg.TEST.SOFT_NMS.SIGMA > 0:
        yield f"TEST.SOFT_NMS.SIGMA must be positive, but is {cfg.TEST.SOFT_NMS.SIGMA}"
    for key in _NOT_NEGATIVE:
        if flat[key] < 0:
            yield f"{key} must not be negative, but is {flat[key]}"
    for section in ("RPN", "ROI_HEADS", "RETINANET"):
        node = cfg.MODEL[section]
        if node.BG_IOU_THRESHOLD > node.FG_IOU_THRESHOLD:
            yield (
                f"MODEL.{section}.BG_IOU_THRESHOLD {node.BG_IOU_THRESHOLD} must not exceed "
                f"FG_IOU_THRESHOLD {node.FG_IOU_THRESHOLD}"
            )


def _check_input(cfg: CfgNode) -> Iterator[str]:
    mean, std = cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD
    if not mean and not std:
        if not library_body(cfg)[0]:
            yield "INPUT.PIXEL_MEAN and PIXEL_STD are empty; only timm/ and torchvision/ bodies may"
    elif len(mean) != 3 or len(std) != 3:
        yield (
            "INPUT.PIXEL_MEAN and INPUT.PIXEL_STD need one value for each of 3 channels, but have "
            f"{len(mean)} and {len(std)}"
        )
    if any(value <= 0 for value in std):
        yield f"INPUT.PIXEL_STD divides the pixels and must be positive, but is {std}"
    sizes = cfg.INPUT.MIN_SIZE_TRAIN
    if not sizes or min(sizes) < 1:
        yield f"INPUT.MIN_SIZE_TRAIN needs at least one positive size, but is {sizes}"
    sampling = cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    if sampling == "range" and (len(sizes) != 2 or sizes[0] > sizes[1]):
        yield (
            'with INPUT.MIN_SIZE_TRAIN_SAMPLING "range", MIN_SIZE_TRAIN needs (smallest, largest), '
            f"but is {sizes}"
        )
    for key in ("LSJ", "COPY_PASTE"):
        scales = cfg.INPUT[key].SCALES
        if len(scales) != 2 or not 0 < scales[0] <= scales[1]:
            yield f"INPUT.{key}.SCALES needs (smallest, largest), above 0, but is {scales}"


def _check_choices(cfg: CfgNode) -> Iterator[str]:
    flat = cfg.flat()
    for key, known in (_DATA_NAMES | _MODEL_NAMES).items():
        if flat[key] not in known:
            yield f"{key} {flat[key]!r} is unknown; choose one of {list(known)}"


def _check_anchors(cfg: CfgNode) -> Iterator[str]:
    retina = cfg.MODEL.RETINANET
    if len(retina.ANCHOR_SIZES) != len(retina.ANCHOR_STRIDES):
        yield (
            "MODEL.RETINANET.ANCHOR_SIZES and ANCHOR_STRIDES need one entry per level, but have "
            f"{len(retina.ANCHOR_SIZES)} and {len(retina.ANCHOR_STRIDES)}"
        )
    if is_one_stage(cfg):  # has its own anchors and leaves the RPN's as they are
        return
    rpn = cfg.MODEL.RPN
    sizes, strides = len(rpn.ANCHOR_SIZES), len(rpn.ANCHOR_STRIDE)
    if rpn.USE_FPN and sizes != strides:
        yield (
            "with MODEL.RPN.USE_FPN, ANCHOR_SIZES and ANCHOR_STRIDE need one entry per level, but "
            f"have {sizes} and {strides}"
        )
    if not rpn.USE_FPN and strides != 1:
        yield (
            "without MODEL.RPN.USE_FPN there is one level, but ANCHOR_STRIDE has "
            f"{strides} entries: {rpn.ANCHOR_STRIDE}"
        )
    if not sizes or not rpn.ASPECT_RATIOS:
        yield "MODEL.RPN.ANCHOR_SIZES and ASPECT_RATIOS must not be empty"


def _check_heads(cfg: CfgNode) -> Iterator[str]:
    for key in ("ROI_BOX_HEAD", "RETINANET", "YOLOF"):
        if cfg.MODEL[key].NUM_CLASSES < 2:
            yield (
                f"MODEL.{key}.NUM_CLASSES counts the background and must be at least 2, but is "
                f"{cfg.MODEL[key].NUM_CLASSES}"
            )
    for key in ("ROI_HEADS", "RETINANET"):
        if len(cfg.MODEL[key].BBOX_REG_WEIGHTS) != 4:
            yield (
                f"MODEL.{key}.BBOX_REG_WEIGHTS needs the 4 values of dx, dy, dw, dh, but is "
                f"{cfg.MODEL[key].BBOX_REG_WEIGHTS}"
            )
    yield from check_masks(cfg)
    for head in _used_heads(cfg):
        scales = cfg.MODEL[head].POOLER_SCALES
        levels = len(cfg.MODEL.RPN.ANCHOR_STRIDE)
        if not 1 <= len(scales) <= levels:
            yield (
                f"MODEL.{head}.POOLER_SCALES needs 1 to {levels} values for the {levels} levels of "
                f"MODEL.RPN.ANCHOR_STRIDE, but has {len(scales)}"
            )
        elif any(fine != 2 * coarse for fine, coarse in pairwise(scales)):
            yield f"MODEL.{head}.POOLER_SCALES must halve from level to level, but is {scales}"


def _check_cascade(cfg: CfgNode) -> Iterator[str]:
    keys = cfg.MODEL.ROI_BOX_CASCADE_HEAD
    for key in ("BBOX_REG_WEIGHTS", "LOSS_WEIGHTS"):
        if len(keys[key]) != len(keys.IOUS):
            yield (
                f"MODEL.ROI_BOX_CASCADE_HEAD.{key} needs one entry for each of the "
                f"{len(keys.IOUS)} stages of IOUS, but has {len(keys[key])}"
            )
    if any(not 0 <= iou <= 1 for iou in keys.IOUS):
        yield f"MODEL.ROI_BOX_CASCADE_HEAD.IOUS must lie within 0 and 1, but are {keys.IOUS}"
    if any(len(weights) != 4 for weights in keys.BBOX_REG_WEIGHTS):
        yield (
            "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS needs the 4 values of dx, dy, dw, dh for "
            f"each stage, but is {keys.BBOX_REG_WEIGHTS}"
        )
    if not cfg.MODEL.CLS_AGNOSTIC_BBOX_REG:
        yield (
            "MODEL.ROI_BOX_CASCADE_HEAD.IOUS needs MODEL.CLS_AGNOSTIC_BBOX_REG True: a stage hands "
            "on one box per region"
        )
    for head in _used_heads(cfg):
        if cfg.MODEL[head].get("SHARE_BOX_FEATURE_EXTRACTOR", False):
            yield (
                f"MODEL.{head}.SHARE_BOX_FEATURE_EXTRACTOR must be False in a cascade, which has a "
                "feature extractor for each stage"
            )


def _check_proposals(cfg: CfgNode) -> Iterator[str]:
    if not cfg.MODEL.LOAD_PROPOSALS:
        return
    if cfg.MODEL.RPN_ONLY or is_one_stage(cfg):
        yield "MODEL.LOAD_PROPOSALS is for models with RoI heads: set it or MODEL.RPN_ONLY False"
    if cfg.INPUT.COPY_PASTE.PROB > 0:
        yield "INPUT.COPY_PASTE mixes images and cannot follow MODEL.LOAD_PROPOSALS: set PROB to 0"
    for phase in ("TRAIN", "TEST"):
        files, names = cfg.DATASETS[f"PROPOSAL_FILES_{phase}"], cfg.DATASETS[phase]
        if files and len(files) != len(names):
            yield (
                f"DATASETS.PROPOSAL_FILES_{phase} needs one file for each of the {len(names)} data "
                f"sets of DATASETS.{phase}, but has {len(files)}"
            )


def _check_augmentation(cfg: CfgNode) -> Iterator[str]:
    for section in _AUGMENTATIONS:
        keys = cfg.TEST[section]
        if any(scale < 1 for scale in keys.SCALES):
            yield f"TEST.{section}.SCALES must be at least 1, but are {keys.SCALES}"
        if any(ratio <= 0 for ratio in keys.ASPECT_RATIOS):
            yield f"TEST.{section}.ASPECT_RATIOS must be positive, but are {keys.ASPECT_RATIOS}"
    for name in ("SCORE_HEUR", "COORD_HEUR"):
        if cfg.TEST.BBOX_AUG[name] != "UNION":
            yield (
                f'TEST.BBOX_AUG.{name} must be "UNION", but is {cfg.TEST.BBOX_AUG[name]!r}: boxes '
                "of several images cannot be averaged one by one"
            )
    if not cfg.TEST.BBOX_VOTE.SCORING_METHOD_BETA > 0:
        yield (
            "TEST.BBOX_VOTE.SCORING_METHOD_BETA must be positive, but is "
            f"{cfg.TEST.BBOX_VOTE.SCORING_METHOD_BETA}"
        )


def _used_heads(cfg: CfgNode) -> Iterator[str]:
    used = (not (cfg.MODEL.RPN_ONLY or is_one_stage(cfg)), cfg.MODEL.MASK_ON, cfg.MODEL.KEYPOINT_ON)
    return (head for head, is_used in zip(_HEADS, used, strict=True) if is_used)


def _check_schedule(cfg: CfgNode) -> Iterator[str]:
    solver = cfg.SOLVER
    for key, known in _SOLVER_NAMES.items():
        if solver[key] not in known:
            yield f"SOLVER.{key} {solver[key]!r} is unknown; choose one of {list(known)}"
    if not 0 <= solver.EMA_DECAY < 1:
        yield f"SOLVER.EMA_DECAY must be at least 0 and below 1, but is {solver.EMA_DECAY}"
    if any(later <= earlier for earlier, later in pairwise(solver.STEPS)):
        yield f"SOLVER.STEPS must rise from step to step, but is {solver.STEPS}"
