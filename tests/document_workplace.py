"""A directory with all that the documents' commands name, made of the demo's photos."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.tools.cli import main

from .documents import ROOT

MODEL = "maskrcnn_lib/mask_rcnn_mobilenetv2"  # comes with the package
# Behind a training's own keys: a few moments, whatever the schedule of the document.
SHORT = "SOLVER.MAX_ITER 2 SOLVER.WARMUP_ITERS 1 SOLVER.STEPS () SOLVER.BASE_LR 0.00001".split()
SHORT += "SOLVER.IMS_PER_BATCH 2 INPUT.MIN_SIZE_TRAIN (96,) DATALOADER.NUM_WORKERS 0".split()
SHORT += "SOLVER.MAX_EPOCH 0 MODEL.DEVICE cpu".split()
PHOTOS = sorted((ROOT / "demo" / "images").glob("*.jpg"))


def furnish() -> None:
    """Fills the current directory."""
    for directory in ("demo", "training"):
        Path(directory).symlink_to(ROOT / directory)
    for folder in ("photos", "images", "val2017", "mine/photos", "frames", "more", "annotations"):
        Path(folder).mkdir(parents=True)
    for photo in PHOTOS:
        for folder in ("photos", "images", "val2017", "mine/photos"):
            shutil.copy(photo, folder)
    for copy in ("photo.jpg", "frames/1.jpg", "frames/2.jpg"):
        shutil.copy(PHOTOS[0], copy)
    Image.open("photo.jpg").save("more/photo.png")
    for name in ("holiday.mp4", "in.mp4"):
        write_video(name)
    write_annotations()
    write_other_formats()
    write_models()


def write_annotations() -> None:
    """What the packaged model finds on the photos, taken for the truth."""
    assert main(["predict", "photos", "--output", "found"]) == 0
    for name in ("train", "val", "mine/train", "mine/val", "annotations"):
        shutil.copy("found/coco_predictions.json", f"{name}.json")
    shutil.copy("train.json", "annotations/instances_val2017.json")


def write_models() -> None:
    """``my.yaml``; the directory of a training, and two more; weights of a large model."""
    Path("my.yaml").write_text(f"_BASE_: {MODEL}\n")
    data = ["DATASETS.TRAIN", "('coco:train.json:photos',)", "OUTPUT_DIR", "trained"]
    data += ["DATASETS.TEST", "('coco:annotations/instances_val2017.json:val2017',)"]
    words = ["train", "--config-file", MODEL, *data, *SHORT, "SOLVER.LOG_PERIOD", "1"]
    assert main(words) == 0
    for copy in ("run1", "run2"):
        shutil.copytree("trained", copy)
    model = build_detection_model(get_cfg("e2e_mask_rcnn_R_50_FPN_1x"))
    torch.save({"model": model.state_dict()}, "in.pth")
    Path("model_final.pkl").symlink_to("in.pth")  # its content says what it is


def write_other_formats() -> None:
    """The same small annotations as VOC, VIA, labelme, YOLO and Cityscapes have them."""
    width, height = Image.open(PHOTOS[0]).size
    voc = Path("VOCdevkit/VOC2012")
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (voc / folder).mkdir(parents=True)
    shutil.copy(PHOTOS[0], voc / "JPEGImages" / "one.jpg")
    (voc / "ImageSets/Main/train.txt").write_text("one\n")
    (voc / "Annotations/one.xml").write_text(
        f"<annotation><filename>one.jpg</filename><size><width>{width}</width><height>{height}"
        "</height><depth>3</depth></size><object><name>cat</name><difficult>0</difficult><bndbox>"
        "<xmin>10</xmin><ymin>10</ymin><xmax>90</xmax><ymax>80</ymax></bndbox></object></annotation>"
    )
    balloons = Path("balloon/train")
    balloons.mkdir(parents=True)
    shutil.copy(PHOTOS[0], balloons / "one.jpg")
    corners = {"name": "polygon", "all_points_x": [10, 90, 50], "all_points_y": [10, 20, 80]}
    region = {"shape_attributes": corners, "region_attributes": {}}
    via = {"one.jpg1": {"filename": "one.jpg", "regions": {"0": region}}}
    (balloons / "via_region_data.json").write_text(json.dumps(via))
    shape = {"label": "cat", "shape_type": "polygon", "points": [[10, 10], [90, 20], [50, 80]]}
    labelme = {"imagePath": PHOTOS[0].name, "imageWidth": width, "imageHeight": height}
    target = Path("photos", PHOTOS[0].name).with_suffix(".json")
    target.write_text(json.dumps({**labelme, "shapes": [shape]}))
    yolo = Path("yolo")
    for folder in ("images/train", "labels/train"):
        (yolo / folder).mkdir(parents=True)
    shutil.copy(PHOTOS[0], yolo / "images/train/one.jpg")
    (yolo / "labels/train/one.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    Path("data.yaml").write_text("path: yolo\ntrain: images/train\nnames: [cat]\n")
    for split in ("train", "val"):
        fine, left = (Path("cityscapes", kind, split, "ulm") for kind in ("gtFine", "leftImg8bit"))
        fine.mkdir(parents=True)
        left.mkdir(parents=True)
        ids = np.zeros((height, width), np.uint16)
        ids[10:80, 10:90] = 24001  # a person
        Image.fromarray(ids).save(fine / "ulm_000000_000019_gtFine_instanceIds.png")
        person = {"label": "person", "polygon": [[10, 10], [90, 10], [90, 80], [10, 80]]}
        drawn = {"imgWidth": width, "imgHeight": height, "objects": [person]}
        (fine / "ulm_000000_000019_gtFine_polygons.json").write_text(json.dumps(drawn))
        shutil.copy(PHOTOS[0], left / "ulm_000000_000019_leftImg8bit.png")


def write_video(path: str) -> None:
    """Two frames of each photo."""
    video = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"mp4v"), 2, (160, 120))
    for photo in PHOTOS:
        for _ in range(2):
            video.write(cv2.resize(cv2.imread(str(photo)), (160, 120)))
    video.release()
