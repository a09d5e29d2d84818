"""The box head: extractors and predictors of every kind, and the choice of detections."""

import pytest
import torch
from torch.nn import functional as F

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling import registry
from maskrcnn_lib.modeling.box_coder import BoxCoder
from maskrcnn_lib.modeling.outputs import Proposals
from maskrcnn_lib.modeling.poolers import boxes_to_rois
from maskrcnn_lib.modeling.roi_heads.box_head import inference
from maskrcnn_lib.modeling.roi_heads.box_head.box_head import build_roi_box_head
from maskrcnn_lib.modeling.roi_heads.box_head.inference import find_candidates
from maskrcnn_lib.modeling.roi_heads.regions import Regions
from maskrcnn_lib.modeling.suppression import SoftNMS, Suppression

NUM_CLASSES = 6
CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))
IMAGE_SIZES = [(90, 120), (100, 60)]
SETTINGS = {
    "box_coder": CODER,
    "score_threshold": 0.05,
    "nms_threshold": 0.5,
    "max_detections": 30,
    "min_size": 0.01,
}


def random_case(seed=0, per_image=40, regressors=NUM_CLASSES):
    """Logits, offsets and proposals of two images; the second uses half of its slots."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(2, per_image, 2, generator=generator) * 80
    size = 10 + 30 * torch.rand(2, per_image, 2, generator=generator)
    valid = torch.ones(2, per_image, dtype=torch.bool)
    valid[1, per_image // 2 :] = False
    boxes = torch.cat((corner, corner + size), dim=2) * valid[:, :, None]
    logits = 2 * torch.randn(2 * per_image, NUM_CLASSES, generator=generator)
    offsets = torch.randn(2 * per_image, 4 * regressors, generator=generator)
    return logits, offsets, Proposals(boxes, valid.float(), valid)


def select_detections(*case, nms_threshold, max_detections, soft_nms=None, **settings):
    suppress = Suppression(nms_threshold, max_detections, soft_nms)
    return suppress(find_candidates(*case, **settings))


def detections_of_one_image(logits, offsets, boxes, height, width, limit):
    """The plain reading of the method: class by class, with torchvision's NMS."""
    from torchvision.ops import nms

    scores = F.softmax(logits, dim=1)
    decoded = CODER.decode(offsets, boxes).view(len(boxes), -1, 4)
    found = []
    for label in range(1, NUM_CLASSES):
        class_boxes = decoded[:, label] if decoded.shape[1] == NUM_CLASSES else decoded[:, -1]
        chosen = scores[:, label] > SETTINGS["score_threshold"]
        class_boxes, class_scores = class_boxes[chosen].clone(), scores[chosen, label]
        class_boxes[:, 0::2] = class_boxes[:, 0::2].clamp(0, width)
        class_boxes[:, 1::2] = class_boxes[:, 1::2].clamp(0, height)
        large = (class_boxes[:, 2:] - class_boxes[:, :2] >= SETTINGS["min_size"]).all(dim=1)
        class_boxes, class_scores = class_boxes[large], class_scores[large]
        keep = nms(class_boxes, class_scores, SETTINGS["nms_threshold"])
        found += [(float(class_scores[i]), label, class_boxes[i]) for i in keep]
    found.sort(key=lambda row: -row[0])
    return found[:limit] if limit else found


@pytest.mark.parametrize("regressors", [NUM_CLASSES, 2, 1])
@pytest.mark.parametrize("limit", [30, 0])
def test_selection_equals_an_image_by_image_loop(regressors, limit):
    logits, offsets, proposals = random_case(regressors=regressors)
    settings = {**SETTINGS, "max_detections": limit}
    detections = select_detections(
        logits, offsets, proposals, torch.tensor(IMAGE_SIZES), **settings
    )
    per_image = proposals.valid.shape[1]
    for image, (height, width) in enumerate(IMAGE_SIZES):
        rows = slice(image * per_image, image * per_image + int(proposals.valid[image].sum()))
        boxes = proposals.boxes[image][proposals.valid[image]]
        expected = detections_of_one_image(logits[rows], offsets[rows], boxes, height, width, limit)
        valid = detections.valid[image]
        assert int(valid.sum()) == len(expected) > 15
        assert detections.labels[image][valid].tolist() == [row[1] for row in expected]
        expected_scores = torch.tensor([row[0] for row in expected])
        torch.testing.assert_close(detections.scores[image][valid], expected_scores)
        expected_boxes = torch.stack([row[2] for row in expected])
        torch.testing.assert_close(detections.boxes[image][valid], expected_boxes)


def test_unused_slots_come_last_and_hold_zeros():
    logits, offsets, proposals = random_case(seed=1)
    logits[60:] = logits[40:60] = torch.tensor([9.0] + [0.0] * (NUM_CLASSES - 1))
    logits[40, 2] = 9.0
    detections = select_detections(
        logits, offsets, proposals, torch.tensor(IMAGE_SIZES), **SETTINGS
    )
    assert detections.valid[1].tolist() == [True] + [False] * (detections.valid.shape[1] - 1)
    assert detections.labels[1, 0] == 2
    assert not detections.labels[1, 1:].any()
    assert not detections.boxes[1, 1:].any()


def test_background_everywhere_gives_no_detections():
    logits, offsets, proposals = random_case(seed=2)
    logits[:, 0] = 100.0
    detections = select_detections(
        logits, offsets, proposals, torch.tensor(IMAGE_SIZES), **SETTINGS
    )
    assert detections.boxes.shape == (2, 0, 4)
    assert detections.labels.dtype == torch.int64


def test_no_proposals_give_no_detections():
    empty = Proposals(torch.zeros(2, 0, 4), torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool))
    detections = select_detections(
        torch.zeros(0, NUM_CLASSES),
        torch.zeros(0, 4 * NUM_CLASSES),
        empty,
        torch.tensor(IMAGE_SIZES),
        **SETTINGS,
    )
    assert detections.boxes.shape == (2, 0, 4)


def test_the_bound_on_candidates_keeps_the_best(monkeypatch):
    case = random_case(seed=3)
    sizes = torch.tensor(IMAGE_SIZES)
    settings = {**SETTINGS, "max_detections": 5}
    complete = select_detections(*case, sizes, **settings)
    monkeypatch.setattr(inference, "MAX_CANDIDATES", 40)
    bounded = select_detections(*case, sizes, **settings)
    torch.testing.assert_close(bounded.boxes, complete.boxes)


def test_low_precision_head_outputs_are_scored_and_decoded_in_float32():
    logits, offsets, proposals = random_case(seed=4)
    logits, offsets = logits.bfloat16(), offsets.bfloat16()
    sizes = torch.tensor(IMAGE_SIZES)
    ours = select_detections(logits, offsets, proposals, sizes, **SETTINGS)
    expected = select_detections(logits.float(), offsets.float(), proposals, sizes, **SETTINGS)
    assert ours.boxes.dtype == ours.scores.dtype == torch.float32
    torch.testing.assert_close(ours.boxes, expected.boxes)
    torch.testing.assert_close(ours.scores, expected.scores)


@pytest.mark.parametrize(
    ("name", "in_channels", "features_shape"),
    [
        ("torchvision/fasterrcnn_resnet50_fpn", 256, (1024,)),
        ("d2go/faster_rcnn_fbnetv3a_C4", 112, (160, 3, 3)),
        ("e2e_faster_rcnn_R_50_C4_1x", 1024, (2048, 7, 7)),
    ],
)
@pytest.mark.parametrize("count", [3, 0])
def test_every_head_classifies_and_refines_each_region(name, in_channels, features_shape, count):
    head = build_roi_box_head(get_cfg(name), in_channels).eval()
    scales = head.feature_extractor.pooler.scales
    features = [torch.randn(2, in_channels, int(128 * s), int(160 * s)) for s in scales]
    rois = boxes_to_rois(torch.tensor([5.0, 5.0, 60.0, 90.0]).expand(2, count, 4))
    with torch.inference_mode():
        x = head.feature_extractor(features, rois)
        logits, offsets = head.predictor(x)
    num_classes = 91 if name.startswith("torchvision") else 81
    assert x.shape == (2 * count, *features_shape)
    assert logits.shape == (2 * count, num_classes)
    assert offsets.shape == (2 * count, 4 * num_classes)


def test_difficulty_is_the_cross_entropy_of_each_used_slot():
    overrides = ["MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", 8]
    head = build_roi_box_head(get_cfg("e2e_faster_rcnn_R_50_FPN_1x", overrides), 4)
    features = [torch.randn(2, 4, 96 // stride, 96 // stride) for stride in (4, 8, 16, 32)]
    boxes = torch.tensor([[5.0, 5, 60, 90], [20, 30, 60, 50]]).expand(2, 2, 4)
    labels = torch.tensor([[7, 0], [3, 0]])
    valid = torch.tensor([[True, True], [True, False]])
    regions = Regions(boxes, labels, torch.zeros_like(labels), valid, torch.zeros_like(labels), 1)
    logits, _ = head.predictor(head.feature_extractor(features, boxes_to_rois(boxes)))
    probability = logits.softmax(dim=1).gather(1, labels.view(4, 1)).view(2, 2)
    expected = torch.where(valid, -probability.log(), 0.0)
    difficulty = head.difficulty(features, regions)
    assert not difficulty.requires_grad
    torch.testing.assert_close(difficulty, expected.detach())


def test_class_agnostic_regression_has_two_regressors():
    cfg = get_cfg("torchvision/fasterrcnn_resnet50_fpn", ["MODEL.CLS_AGNOSTIC_BBOX_REG", True])
    predictor = registry.ROI_BOX_PREDICTOR["FPNPredictor"](cfg, 16)
    logits, offsets = predictor(torch.randn(3, 16))
    assert logits.shape == (3, 91)
    assert offsets.shape == (3, 8)


def test_soft_nms_keeps_overlapping_detections_at_lower_scores():
    """Two boxes of one class with IoU 0.6: the weaker one's score becomes 0.4 of what it was."""
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0.0, 0, 10, 6]]])
    proposals = Proposals(boxes, torch.ones(1, 2), torch.ones(1, 2, dtype=torch.bool))
    logits = torch.tensor([[0.9, 0.05, 0.05], [0.8, 0.1, 0.1]])[:, [1, 0, 2]].log()
    case = (logits, torch.zeros(2, 12), proposals, torch.tensor([(50, 50)]))
    settings = {**SETTINGS, "score_threshold": 0.3}
    plain = select_detections(*case, **settings)
    soft = select_detections(*case, **settings, soft_nms=SoftNMS("linear", 0.5, 1e-4))
    torch.testing.assert_close(plain.scores, torch.tensor([[0.9]]))
    torch.testing.assert_close(soft.scores, torch.tensor([[0.9, 0.8 * 0.4]]))
    torch.testing.assert_close(soft.boxes, boxes)
    assert soft.labels.tolist() == [[1, 1]]


def test_soft_nms_is_detectrons_switch():
    cfg = get_cfg(overrides=["TEST.SOFT_NMS.ENABLED", True, "TEST.SOFT_NMS.METHOD", "gaussian"])
    assert build_roi_box_head(cfg, 1024).suppress.soft_nms == SoftNMS("gaussian", 0.5, 0.0001)
    assert build_roi_box_head(get_cfg(), 1024).suppress.soft_nms is None
