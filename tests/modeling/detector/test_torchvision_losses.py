"""Training under torchvision's dialect against torchvision itself: losses and all gradients, of a
Mask R-CNN and of a Keypoint R-CNN (whose heads have fewer channels than published, to be quick).

Both models get the same weights, images, ground truth and sampled anchors and regions, and compute
in float64: in float32 rounding moves some activations across the kink of a ReLU, which alone makes
differences of 5e-4 in gradients that went through fifty layers. Boxes and anchors are float32 in
either case.
"""

import pytest
import torch
from torch.nn import functional as F

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.modeling.roi_heads.regions import GROUND_TRUTH_IDS, PROPOSAL_IDS
from maskrcnn_lib.modeling.sampling import random_keys, sample_balanced
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.image_list import to_image_list
from maskrcnn_lib.structures.keypoint import Keypoints
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

NUM_CLASSES = 7
SEEDS = torch.tensor([5, -3, 1 << 60])
SIZES = [(128, 160), (160, 150), (96, 160)]
KEYPOINTS, KEYPOINT_CHANNELS = 5, 32


def octagon(box):
    x1, y1, x2, y2 = box
    w, h = (x2 - x1) / 3, (y2 - y1) / 3
    return [x1 + w, y1, x2 - w, y1, x2, y1 + h, x2, y2 - h, x2 - w, y2, x1 + w, y2, x1, y2 - h, x1]


def some_keypoints(boxes, size, generator):
    """In and around the boxes, on their edges, and some that are not labelled."""
    corner, side = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
    share = torch.rand(len(boxes), KEYPOINTS, 2, generator=generator) * 1.2 - 0.1
    places = corner + share * side
    places[:, 0, 0], places[:, 1, 1] = boxes[:, 2], boxes[:, 3]
    visibility = torch.randint(0, 3, (len(boxes), KEYPOINTS, 1), generator=generator)
    return Keypoints(torch.cat((places, visibility), dim=2), size)


def make_targets():
    """Two images with objects, one without."""
    generator = torch.Generator().manual_seed(0)
    boxes = [
        [[10.0, 20.0, 90.5, 110.25], [60.0, 10.0, 155.0, 120.0], [100.0, 90.0, 131.0, 125.0]],
        [[5.0, 5.0, 60.0, 150.0], [70.25, 80.5, 110.0, 130.0]],
        [],
    ]
    labels = [[1, 6, 3], [2, 2], []]
    targets = []
    for per_image, classes, (height, width) in zip(boxes, labels, SIZES, strict=True):
        target = BoxList(torch.tensor(per_image).reshape(-1, 4), (width, height))
        target.add_field("labels", torch.tensor(classes, dtype=torch.int64))
        outlines = [[[*octagon(box), box[1] + (box[3] - box[1]) / 3]] for box in per_image]
        target.add_field("masks", SegmentationMask(outlines, (width, height)))
        target.add_field("keypoints", some_keypoints(target.bbox, (width, height), generator))
        targets.append(target)
    return targets


@torch.no_grad()
def make_peer(kind):
    from torchvision.models.detection import KeypointRCNN, MaskRCNN, keypoint_rcnn
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import FrozenBatchNorm2d

    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=FrozenBatchNorm2d,
        trainable_layers=5,
    )
    sizes = {"rpn_pre_nms_top_n_train": 200, "rpn_post_nms_top_n_train": 60}
    if kind == "mask":
        peer = MaskRCNN(backbone, NUM_CLASSES, **sizes).train()
    else:
        head = keypoint_rcnn.KeypointRCNNHeads(256, (KEYPOINT_CHANNELS,) * 8)
        last = keypoint_rcnn.KeypointRCNNPredictor(KEYPOINT_CHANNELS, KEYPOINTS)
        parts = {"keypoint_head": head, "keypoint_predictor": last}
        peer = KeypointRCNN(backbone, NUM_CLASSES, **parts, **sizes).train()
    for name, buffer in peer.named_buffers():  # random norms, of moderate size
        spread = torch.rand_like(buffer)
        if name.endswith("running_var"):
            buffer.copy_(0.5 + spread)
        elif name.endswith("weight"):
            buffer.copy_((0.2 if name.endswith("bn3.weight") else 0.8) + 0.2 * spread)
        elif name.endswith(("running_mean", "bias")):
            buffer.copy_(0.2 * (spread - 0.5))
    for layer in (peer.rpn.head.cls_logits, peer.rpn.head.bbox_pred):
        layer.weight.mul_(3)
    return peer


class SameSample:
    """Stands in for torchvision's sampler and draws what this library draws."""

    def __init__(self, ids, batch_size, positive_fraction):
        self.ids, self.batch_size, self.positive_fraction = ids, batch_size, positive_fraction

    def __call__(self, labels):
        positives, negatives = [], []
        for image, of_image in enumerate(labels):
            kinds = of_image.long().clamp(max=1)[None]
            sample = sample_balanced(
                kinds,
                random_keys(SEEDS[image : image + 1], self.ids(image, len(of_image))),
                batch_size=self.batch_size,
                positive_fraction=self.positive_fraction,
            )
            for chosen, wanted in (
                (positives, sample.positive),
                (negatives, sample.valid & ~sample.positive),
            ):
                mask = torch.zeros(len(of_image), dtype=torch.uint8)
                mask[sample.indices[wanted]] = 1
                chosen.append(mask)
        return positives, negatives


def peer_losses(peer, names, images, targets):
    """The losses of torchvision's model behind its own resizing."""
    from torchvision.models.detection.image_list import ImageList

    features = peer.backbone(images.tensors)
    objects = [len(target) for target in targets]

    def region_names(image, count):
        found = count - objects[image]
        truth = torch.arange(objects[image]) + GROUND_TRUTH_IDS
        return torch.cat((torch.arange(found) + PROPOSAL_IDS, truth))

    peer.rpn.fg_bg_sampler = SameSample(lambda image, count: names, 256, 0.5)
    peer.roi_heads.fg_bg_sampler = SameSample(region_names, 512, 0.25)
    wanted = [
        {
            "boxes": target.bbox.double(),
            "labels": target.get_field("labels"),
            "masks": target.get_field("masks").get_mask_tensor().to(torch.uint8),
            "keypoints": target.get_field("keypoints").keypoints,
        }
        for target in targets
    ]
    batch = ImageList(images.tensors, images.image_sizes)
    proposals, rpn_losses = peer.rpn(batch, features, wanted)
    _, head_losses = peer.roi_heads(features, proposals, images.image_sizes, wanted)
    if "loss_keypoint" in head_losses:
        head_losses["loss_kp"] = head_losses.pop("loss_keypoint")
    return {**rpn_losses, **head_losses}


def make_ours(kind):
    overrides = {
        "MODEL.ROI_BOX_HEAD.NUM_CLASSES": NUM_CLASSES,
        "MODEL.BACKBONE.FREEZE_CONV_BODY_AT": 0,
        "MODEL.RPN.PRE_NMS_TOP_N_TRAIN": 200,
        "MODEL.RPN.FPN_POST_NMS_TOP_N_TRAIN": 60,
        "MODEL.ROI_KEYPOINT_HEAD.NUM_CLASSES": KEYPOINTS,
        "MODEL.ROI_KEYPOINT_HEAD.CONV_LAYERS": [KEYPOINT_CHANNELS] * 8,
    }
    flat = [item for pair in overrides.items() for item in pair]
    return build_detection_model(get_cfg(f"torchvision/{kind}rcnn_resnet50_fpn", flat)).double()


@pytest.fixture(scope="module", params=["mask", pytest.param("keypoint", marks=pytest.mark.slow)])
def both(request):
    """Our model and losses, and torchvision's, with all gradients."""
    kind = request.param
    peer = make_peer(kind).double()
    ours = make_ours(kind).train()
    load_weights(ours, peer.state_dict(), strict=True)
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(3, 3, 8, 8, generator=generator)
    batch = F.interpolate(coarse, (160, 160), mode="bilinear")
    batch += 0.3 * torch.randn(3, 3, 160, 160, generator=generator)
    images = to_image_list(
        [
            image[:, :height, :width].double()
            for image, (height, width) in zip(batch, SIZES, strict=True)
        ]
    )
    targets = make_targets()
    shapes = [(40, 40), (20, 20), (10, 10), (5, 5), (3, 3)]
    names = ours.rpn.anchor_generator.names(shapes, torch.device("cpu"))
    theirs = peer_losses(peer, names, images, targets)
    sum(theirs.values()).backward()
    losses = ours(images, targets, seeds=SEEDS)
    sum(losses.values()).backward()
    return ours, losses, peer, theirs, make_ours(kind)


def test_losses_equal_torchvisions(both):
    _, losses, _, theirs, _ = both
    assert set(losses) == set(theirs)
    for name, value in theirs.items():
        assert value > 1e-3, f"{name} says nothing"
        torch.testing.assert_close(losses[name].double(), value.double(), rtol=1e-5, atol=1e-5)


def test_gradients_of_all_parameters_equal_torchvisions(both):
    ours, _, peer, _, compare = both
    gradients = {name: value.grad for name, value in peer.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    # The importer renames gradients as it renames weights; norms have none and stay as they are.
    load_weights(compare, {**peer.state_dict(), **gradients}, strict=True)
    expected = dict(compare.named_parameters())
    worst = {}
    for name, value in ours.named_parameters():
        # The bias of a heat map moves all its cells alike: its gradient is 0 up to rounding.
        size = expected[name].norm().clamp(min=1e-6)
        worst[name] = ((value.grad - expected[name]).norm() / size).item()
    assert len(worst) == len(gradients)
    assert max(worst.values()) < 1e-4, sorted(worst.items(), key=lambda item: -item[1])[:5]
