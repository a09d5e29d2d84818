"""A Keypoint R-CNN learns real photos by heart, and finds their keypoints again."""

import json

import pytest
import torch
from torch import nn

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.data.datasets import COCODataset
from maskrcnn_lib.data.transformed_dataset import TransformedDataset
from maskrcnn_lib.data.transforms import build_transforms
from maskrcnn_lib.engine.inference import build_detector
from maskrcnn_lib.engine.measuring import measure_dataset
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.structures.image_list import to_image_list

STEPS = 150
CONFIG = "d2go/keypoint_rcnn_fbnetv3a_dsmask_C4"
WEIGHTS = "keypoint_rcnn_fbnetv3a_dsmask_float.pth"
KEYPOINT_HEAD = "roi_heads.keypoint_head."


def four_photos(content):
    """The annotations of the four photos with the most labelled keypoints per person."""
    persons = {image["id"]: [] for image in content["images"]}
    for entry in content["annotations"]:
        persons[entry["image_id"]].append(0 if entry["iscrowd"] else entry["num_keypoints"])
    chosen = sorted(persons, key=lambda i: min(persons[i], default=0))[-4:]
    return content | {
        "images": [image for image in content["images"] if image["id"] in chosen],
        "annotations": [entry for entry in content["annotations"] if entry["image_id"] in chosen],
    }


def train(model, dataset):
    """Returns ``loss_kp`` of each step."""
    transform = build_transforms(get_cfg(CONFIG), is_train=False)
    samples = TransformedDataset(dataset, transform)
    pixels, targets = zip(*[samples[i][:2] for i in range(len(samples))], strict=True)
    images = to_image_list(list(pixels), 32)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=STEPS)
    history = []
    for step in range(STEPS):
        losses = model(images, targets, seeds=[step + 1000 * i for i in range(4)])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        history.append(losses["loss_kp"].item())
    return history


@pytest.mark.slow
@pytest.mark.data
def test_a_new_keypoint_head_learns_four_photos_by_heart(test_data):
    """The body and the box head are D2Go's, the keypoint head begins with random weights."""
    mini = test_data / "coco_mini"
    annotations = json.loads((mini / "annotations" / "person_keypoints_train2017.json").read_text())
    dataset = COCODataset(four_photos(annotations), mini / "train2017")
    cfg = get_cfg(CONFIG, ["MODEL.RPN.POST_NMS_TOP_N_TRAIN", 100])
    torch.manual_seed(0)
    model = build_detection_model(cfg)
    stored = torch.load(test_data / "weights" / WEIGHTS, weights_only=True)
    trained = {k: v for k, v in stored.items() if not k.startswith(KEYPOINT_HEAD)}
    report = load_weights(model, trained)
    assert all(name.startswith("roi_heads.keypoint.") for name in report.missing)
    history = train(model.train(), dataset)
    assert history[0] > 5.5  # log(24 * 24) = 6.4 is a guess among the cells
    assert history[-1] < 1.5
    detector = build_detector(cfg, model.state_dict())
    scores, _ = measure_dataset(detector, "photos", dataset, progress=False)
    assert scores["bbox"].metrics["AP50"] > 0.9
    assert scores["keypoints"].metrics["AP"] > 0.9
