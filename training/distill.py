"""Trains a small Mask R-CNN on ground truth and on what a large one says of the same images.

    python training/distill.py DATASETS.TRAIN '("coco:annotations.json:images",)' OUTPUT_DIR output

The loop, the data and the files in OUTPUT_DIR are those of ``maskrcnn train``; README.md beside
this file says how the model that comes with the package was made.
"""

import argparse
import sys
from functools import partial

import torch

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.config import CfgNode, get_cfg
from maskrcnn_lib.config.pixels import pixel_statistics
from maskrcnn_lib.data.datasets import build_train_dataset
from maskrcnn_lib.engine.inference import choose_model
from maskrcnn_lib.engine.preflight import class_names
from maskrcnn_lib.engine.training import run_training
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.modeling.distillation import DistillingDetector, PixelScale
from maskrcnn_lib.utils.logger import setup_logger


def build(cfg: CfgNode, *, weights: str, teacher_name: str) -> DistillingDetector:
    """The student that ``cfg`` describes, learning from a published model.

    Classes are those of the training data; the teacher knows them by the same names.
    """
    teacher_cfg, teacher_weights = choose_model(model=teacher_name)
    teacher = build_detection_model(teacher_cfg)
    report = load_weights(teacher, teacher_weights or teacher_cfg.MODEL.WEIGHT, strict=True)
    student = build_detection_model(cfg)
    names = class_names(build_train_dataset(cfg, check_classes=False), cfg)
    load_weights(student, weights, class_names=names)
    return DistillingDetector(
        student,
        teacher.to(memory_format=torch.channels_last),
        scales=(pixel_scale(cfg), pixel_scale(teacher_cfg)),
        teacher_labels=[report.class_names.index(name) for name in names],
    )


def pixel_scale(cfg: CfgNode) -> PixelScale:
    """How the images of a config are normalised."""
    return PixelScale(*map(tuple, pixel_statistics(cfg)), bgr255=cfg.INPUT.TO_BGR255)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config-file", default="maskrcnn_lib/mask_rcnn_mobilenetv2")
    parser.add_argument("--teacher", default="d2go/mask_rcnn_fbnetv3a_C4", help="published model")
    parser.add_argument(
        "--weights", default="catalog://ImageNetPretrained/torchvision/mobilenet_v2"
    )
    parser.add_argument("--resume", action="store_true", help="go on from OUTPUT_DIR")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    args = parser.parse_args()
    cfg = get_cfg(args.config_file, ["MODEL.WEIGHT", "", *args.opts])
    setup_logger("maskrcnn_lib", cfg.OUTPUT_DIR, 0)
    run_training(
        cfg,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        given=set(args.opts[0::2]),
        resume=args.resume,
        evaluates="DATASETS.TEST" in args.opts,
        build=partial(build, weights=args.weights, teacher_name=args.teacher),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
