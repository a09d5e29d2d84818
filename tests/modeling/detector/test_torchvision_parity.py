"""The whole detector against torchvision's with the same random weights.

Both run in float32 but fold the norms and order the sums differently, which costs some 1e-6
relative per layer; the tolerances leave room for that over the network's depth.
"""

from functools import cache

import pytest
import torch
from torch.nn import functional as F

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.modeling.roi_heads.mask_head.inference import Masker
from maskrcnn_lib.structures.image_list import ImageList, to_image_list

NUM_CLASSES = 91
ANCHORS, PROPOSALS = 200, 80  # per level before NMS and per image after it, to be quick
SCORE_THRESHOLD = 0.2
KEYPOINT_CHANNELS = 32  # instead of 512
# Of random weights, where others than the first give scores without near ties: the order of two
# boxes that overlap, and with it the choice between them, is a matter of rounding there.
SEEDS = {"fasterrcnn_mobilenet_v3_large_fpn": 3, "fasterrcnn_mobilenet_v3_large_320_fpn": 3}
# The model that has a threshold of objectness gets one that is felt among its best anchors.
WITH_THRESHOLD, OBJECTNESS = "fasterrcnn_mobilenet_v3_large_320_fpn", 0.98


def smooth_images(count, height, width, generator=None):
    """Random images whose structure is coarse enough to reach the deepest feature maps."""
    coarse = torch.randn(count, 3, height // 24, width // 24, generator=generator)
    fine = torch.randn(count, 3, height, width, generator=generator)
    return 0.3 * fine + F.interpolate(coarse, (height, width), mode="bilinear")


def randomise(peer, batch):
    """Gives the norms random statistics and the last layers outputs that make many detections."""
    for name, buffer in _norm_values(peer):
        spread = torch.rand_like(buffer)
        if name.endswith("running_mean"):
            buffer.copy_(0.2 * (spread - 0.5))
        elif name.endswith("running_var"):
            buffer.copy_(0.5 + spread)
        elif name.endswith("bias"):
            buffer.copy_(0.4 * (spread - 0.5))
        elif name.endswith("weight"):
            # keeps the sum over the blocks within bounds
            last = name.endswith(("bn3.weight", "block.2.1.weight", "block.3.1.weight"))
            buffer.copy_((0.2 if last else 0.8) + 0.2 * spread)
    names = list(features := peer.backbone(batch))
    hidden = peer.rpn.head.conv(features[names[0]])
    spread_output(peer.rpn.head.cls_logits, hidden, 2.0)
    spread_output(peer.rpn.head.bbox_pred, hidden, 0.3)
    heads = peer.roi_heads
    corners = 224 * torch.rand(200, 2, 2)
    boxes = torch.cat((corners.amin(dim=1), corners.amax(dim=1)), dim=1)
    shapes = [(224, 224)] * 2
    x = heads.box_head(heads.box_roi_pool(features, [boxes] * 2, shapes))
    spread_output(heads.box_predictor.cls_score, x, 2.0)
    spread_output(heads.box_predictor.bbox_pred, x, 1.0)
    if heads.has_mask():
        x = heads.mask_head(heads.mask_roi_pool(features, [boxes[:20]] * 2, shapes))
        x = heads.mask_predictor.conv5_mask(x).relu()
        spread_output(heads.mask_predictor.mask_fcn_logits, x, 3.0)
    if heads.has_keypoint():
        x = heads.keypoint_head(heads.keypoint_roi_pool(features, [boxes[:20]] * 2, shapes))
        spread_output(heads.keypoint_predictor.kps_score_lowres, x, 3.0)


def _norm_values(peer):
    """Statistics and weights of all norms, frozen or not, by name."""
    for prefix, module in peer.named_modules():
        if hasattr(module, "running_var"):
            for name in ("weight", "bias", "running_mean", "running_var"):
                yield f"{prefix}.{name}", getattr(module, name)


def spread_output(layer, x, spread):
    """Rescales a layer so that its outputs over x have that standard deviation.

    Part of each output's mean is taken away, so that more than one class wins; taking away all of
    it would enlarge the differences of rounding.
    """
    outputs = layer(x).movedim(1, -1).flatten(0, -2)
    centre = 0.4 * outputs.mean(dim=0)
    factor = spread / (outputs - centre).std()
    layer.weight.mul_(factor)
    layer.bias.copy_(factor * (layer.bias - centre))


def torchvision_model(name):
    from torchvision.models import detection
    from torchvision.models.detection import FasterRCNN, KeypointRCNN, MaskRCNN, keypoint_rcnn
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import FrozenBatchNorm2d

    settings = {
        "rpn_pre_nms_top_n_test": ANCHORS,
        "rpn_post_nms_top_n_test": PROPOSALS,
        "rpn_score_thresh": OBJECTNESS if name == WITH_THRESHOLD else 0.0,
        "box_score_thresh": SCORE_THRESHOLD,
    }
    if "v2" in name or "mobilenet" in name:
        builder = getattr(detection, name)
        return builder(weights=None, weights_backbone=None, **settings).eval()
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d
    )
    make, parts = MaskRCNN if name.startswith("mask") else FasterRCNN, {}
    if name.startswith("keypoint"):
        make = KeypointRCNN
        parts = {
            "keypoint_head": keypoint_rcnn.KeypointRCNNHeads(256, (KEYPOINT_CHANNELS,) * 8),
            "keypoint_predictor": keypoint_rcnn.KeypointRCNNPredictor(KEYPOINT_CHANNELS, 17),
        }
    return make(backbone, NUM_CLASSES, **parts, **settings).eval()


def run_torchvision(peer, images):
    """torchvision's detections without its resizing: ours gets the same padded batch."""
    from torchvision.models.detection.image_list import ImageList as PeerImageList

    features = peer.backbone(images.tensors)
    batch = PeerImageList(images.tensors, images.image_sizes)
    proposals, _ = peer.rpn(batch, features)
    detections, _ = peer.roi_heads(features, proposals, images.image_sizes)
    return features, proposals, detections


@cache
def models(name):
    """(ours, torchvision's) with the same weights."""
    torch.manual_seed(SEEDS.get(name, 0))
    with torch.no_grad():
        peer = torchvision_model(name)
        randomise(peer, smooth_images(2, 224, 224))
    overrides = {
        "MODEL.RPN.PRE_NMS_TOP_N_TEST": ANCHORS,
        "MODEL.RPN.FPN_POST_NMS_TOP_N_TEST": PROPOSALS,
        "MODEL.RPN.SCORE_THRESH": OBJECTNESS if name == WITH_THRESHOLD else 0.0,
        "MODEL.ROI_HEADS.SCORE_THRESH": SCORE_THRESHOLD,
        "MODEL.ROI_BOX_HEAD.NUM_CLASSES": NUM_CLASSES,
        "MODEL.ROI_KEYPOINT_HEAD.CONV_LAYERS": [KEYPOINT_CHANNELS] * 8,
    }
    cfg = get_cfg(f"torchvision/{name}", [item for pair in overrides.items() for item in pair])
    model = build_detection_model(cfg).eval()
    load_weights(model, peer.state_dict(), strict=True)
    return model, peer


@pytest.fixture(
    scope="module",
    params=[
        ("maskrcnn_resnet50_fpn", [(203, 311)]),
        ("maskrcnn_resnet50_fpn", [(160, 131), (107, 190), (131, 160)]),
        ("fasterrcnn_resnet50_fpn", [(143, 211)]),
        ("keypointrcnn_resnet50_fpn", [(160, 190), (203, 131)]),
        ("maskrcnn_resnet50_fpn_v2", [(143, 211)]),
        ("fasterrcnn_mobilenet_v3_large_fpn", [(224, 250), (203, 311)]),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", [(203, 311)]),
        pytest.param(
            ("fasterrcnn_resnet50_fpn_v2", [(160, 190), (203, 131)]), marks=pytest.mark.slow
        ),
    ],
    ids=lambda param: f"{param[0]}-batch{len(param[1])}",
)
def compared(request):
    """Everything that both models compute for the same random images of odd sizes."""
    name, sizes = request.param
    model, peer = models(name)
    generator = torch.Generator().manual_seed(len(sizes))
    images = to_image_list(
        [smooth_images(1, *size, generator)[0] for size in sizes], size_divisible=32
    )
    with torch.inference_mode():
        features = model.backbone(images.tensors)
        ours = features, model.rpn(images, features), model(images)
        theirs = run_torchvision(peer, images)
    return name, model, images, ours, theirs


def test_backbone_features_agree(compared):
    _, model, _, (features, _, _), (peer_features, _, _) = compared
    assert len(features) == len(peer_features) == len(model.rpn.anchor_generator.strides)
    for ours, theirs in zip(features, peer_features.values(), strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def counterparts(boxes, scores, peer_boxes, peer_scores):
    """For each of our boxes the index of the peer's; each is used once.

    The order is not compared here: boxes whose scores agree to 1e-7 may change places.
    """
    ours = torch.cat((boxes, 1000 * scores[:, None]), dim=1)
    theirs = torch.cat((peer_boxes, 1000 * peer_scores[:, None]), dim=1)
    assert len(ours) == len(theirs)
    index = torch.cdist(ours, theirs, p=torch.inf).argmin(dim=1)
    assert sorted(index.tolist()) == list(range(len(boxes)))
    return index


def detection_counterparts(ours, theirs):
    return counterparts(ours.bbox, ours.get_field("scores"), theirs["boxes"], theirs["scores"])


def test_proposals_agree(compared):
    name, *_, (_, proposals, _), (_, peer_proposals, _) = compared
    for i, theirs in enumerate(peer_proposals):
        ours = proposals.boxes[i][proposals.valid[i]]
        assert len(ours) == len(theirs)
        if name == WITH_THRESHOLD:
            assert proposals.scores[i][proposals.valid[i]].min() >= OBJECTNESS
            assert 10 < len(ours) < PROPOSALS
        else:
            assert len(ours) == PROPOSALS
        distance = torch.cdist(ours, theirs, p=torch.inf)
        assert distance.amin(dim=0).max() < 0.01
        assert distance.amin(dim=1).max() < 0.01


def test_detections_agree(compared):
    *_, (_, _, detections), (_, _, peer_detections) = compared
    for ours, theirs in zip(detections, peer_detections, strict=True):
        scores = ours.get_field("scores")
        assert 5 < len(ours) < 100  # some, and none cut off by the limit
        index = detection_counterparts(ours, theirs)
        assert ours.get_field("labels").tolist() == theirs["labels"][index].tolist()
        torch.testing.assert_close(ours.bbox, theirs["boxes"][index], atol=0.01, rtol=0)
        torch.testing.assert_close(scores, theirs["scores"][index], atol=1e-5, rtol=0)
        assert (scores[1:] <= scores[:-1]).all()


def test_pasted_masks_agree(compared):
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    *_, (_, _, detections), (_, _, peer_detections) = compared
    for ours, theirs in zip(detections, peer_detections, strict=True):
        assert ours.has_field("mask") == ("masks" in theirs)
        if not ours.has_field("mask"):
            continue
        (pasted,) = Masker(threshold=0.5, box_end_offset=0.0)([ours.get_field("mask")], [ours])
        width, height = ours.size
        index = detection_counterparts(ours, theirs)
        expected = paste_masks_in_image(theirs["masks"], theirs["boxes"], (height, width)) > 0.5
        expected = expected[index]
        common = (pasted & expected).sum(dim=(1, 2, 3))
        either = (pasted | expected).sum(dim=(1, 2, 3))
        assert common.sum() > 0.999 * either.sum() > 1000
        # In a small mask a single pixel at the threshold is more than a thousandth.
        assert (either - common <= (0.001 * either).clamp(min=1)).all()


def test_keypoints_agree(compared):
    *_, (_, _, detections), (_, _, peer_detections) = compared
    for ours, theirs in zip(detections, peer_detections, strict=True):
        assert ours.has_field("keypoints") == ("keypoints" in theirs)
        if not ours.has_field("keypoints"):
            continue
        index = detection_counterparts(ours, theirs)
        keypoints, expected = ours.get_field("keypoints"), theirs["keypoints"][index]
        scores = theirs["keypoints_scores"][index]
        torch.testing.assert_close(keypoints.get_field("logits"), scores, atol=1e-3, rtol=0)
        torch.testing.assert_close(keypoints.keypoints, expected, atol=0.01, rtol=0)


def test_a_batch_gives_the_same_boxes_as_its_images_alone(compared):
    _, model, images, (_, _, detections), _ = compared
    for i, size in enumerate(images.image_sizes):
        alone = ImageList(images.tensors[i : i + 1], [size])  # the padding is part of the input
        with torch.inference_mode():
            (single,) = model(alone)
        assert single.get_field("labels").tolist() == detections[i].get_field("labels").tolist()
        torch.testing.assert_close(single.bbox, detections[i].bbox, atol=0.01, rtol=0)
