"""RetinaNet against torchvision's with the same random weights and norm statistics.

Detections are compared in float32, within the rounding over the network's depth; losses and
gradients in float64, where no rounding moves an activation across the kink of a ReLU.
"""

from functools import cache

import pytest
import torch

from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.image_list import ImageList, to_image_list

from .retinanet_peer import make_ours, make_peer, smooth_images

NAMES = ["retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2"]
PAIRS = 60  # per level before NMS: fewer than there are, so that the choice is compared as well
THRESHOLD = 0.2


@cache
def detecting(name):
    peer = make_peer(name, 91, frozen=False)
    peer.topk_candidates, peer.score_thresh = PAIRS, THRESHOLD
    ours = make_ours(
        peer,
        name,
        91,
        MODEL__RETINANET__PRE_NMS_TOP_N=PAIRS,
        MODEL__RETINANET__INFERENCE_TH=THRESHOLD,
    )
    return ours.eval(), peer


def run_torchvision(peer, images):
    """torchvision's detections without its resizing: ours gets the same padded batch."""
    from torchvision.models.detection.image_list import ImageList as PeerImageList

    features = list(peer.backbone(images.tensors).values())
    outputs = peer.head(features)
    anchors = peer.anchor_generator(PeerImageList(images.tensors, images.image_sizes), features)
    per_level = [feature.shape[2] * feature.shape[3] * 9 for feature in features]
    split = {name: list(value.split(per_level, dim=1)) for name, value in outputs.items()}
    by_level = [list(image.split(per_level)) for image in anchors]
    return peer.postprocess_detections(split, by_level, images.image_sizes)


ONE, THREE = [(203, 311)], [(160, 131), (107, 190), (131, 160)]


@pytest.mark.parametrize(("name", "sizes"), [(NAMES[0], ONE), (NAMES[0], THREE), (NAMES[1], THREE)])
def test_detections_agree(name, sizes):
    ours, peer = detecting(name)
    generator = torch.Generator().manual_seed(len(sizes))
    images = to_image_list([smooth_images(1, *size, generator)[0] for size in sizes], 32)
    with torch.inference_mode():
        found, expected = ours(images), run_torchvision(peer, images)
    for boxes, theirs in zip(found, expected, strict=True):
        scores = boxes.get_field("scores")
        assert 5 < len(boxes) == len(theirs["scores"]) < 300  # some, and none cut off
        assert (scores[1:] <= scores[:-1]).all()
        # Boxes whose scores agree to 1e-7 may change places.
        us = torch.cat((boxes.bbox, 1000 * scores[:, None]), dim=1)
        them = torch.cat((theirs["boxes"], 1000 * theirs["scores"][:, None]), dim=1)
        index = torch.cdist(us, them, p=torch.inf).argmin(dim=1)
        assert sorted(index.tolist()) == list(range(len(boxes)))
        assert boxes.get_field("labels").tolist() == theirs["labels"][index].tolist()
        torch.testing.assert_close(boxes.bbox, theirs["boxes"][index], atol=0.01, rtol=0)
        torch.testing.assert_close(scores, theirs["scores"][index], atol=1e-5, rtol=0)


def test_a_batch_gives_the_same_boxes_as_its_images_alone():
    ours, _ = detecting(NAMES[0])
    sizes = [(128, 96), (96, 128), (100, 100)]
    generator = torch.Generator().manual_seed(7)
    images = to_image_list([smooth_images(1, *size, generator)[0] for size in sizes], 32)
    with torch.inference_mode():
        together = ours(images)
        for i, size in enumerate(sizes):
            (alone,) = ours(ImageList(images.tensors[i : i + 1], [size]))  # with the same padding
            assert alone.get_field("labels").tolist() == together[i].get_field("labels").tolist()
            torch.testing.assert_close(alone.bbox, together[i].bbox, atol=0.01, rtol=0)


CLASSES = 7
SIZES = [(96, 128), (128, 120), (64, 128)]


def make_targets():
    """Two images with objects, one without."""
    boxes = [
        [[10.0, 20.0, 80.5, 90.25], [50.0, 5.0, 125.0, 60.0], [90.0, 60.0, 121.0, 95.0]],
        [[5.0, 5.0, 60.0, 125.0], [70.25, 80.5, 110.0, 120.0]],
        [],
    ]
    targets = []
    for per_image, classes, (height, width) in zip(
        boxes, [[1, 6, 3], [2, 2], []], SIZES, strict=True
    ):
        target = BoxList(torch.tensor(per_image).reshape(-1, 4), (width, height))
        target.add_field("labels", torch.tensor(classes, dtype=torch.int64))
        targets.append(target)
    return targets


def peer_losses(peer, images, targets):
    from torchvision.models.detection.image_list import ImageList as PeerImageList

    features = list(peer.backbone(images.tensors).values())
    anchors = peer.anchor_generator(PeerImageList(images.tensors, images.image_sizes), features)
    wanted = [
        {"boxes": target.bbox.double(), "labels": target.get_field("labels")} for target in targets
    ]
    return peer.compute_loss(wanted, peer.head(features), anchors)


@pytest.fixture(scope="module", params=[NAMES[0], pytest.param(NAMES[1], marks=pytest.mark.slow)])
def trained(request):
    """Our model and losses, and torchvision's, with all gradients."""
    frozen = request.param == NAMES[0]  # the norms of v2 are trained
    peer = make_peer(request.param, CLASSES, frozen=frozen).double().train()
    ours = make_ours(peer, request.param, CLASSES, MODEL__BACKBONE__FREEZE_CONV_BODY_AT=0).train()
    generator = torch.Generator().manual_seed(0)
    images = to_image_list([smooth_images(1, *size, generator)[0].double() for size in SIZES], 32)
    targets = make_targets()
    theirs = peer_losses(peer, images, targets)
    sum(theirs.values()).backward()
    losses = ours(images, targets)
    sum(losses.values()).backward()
    return request.param, ours, losses, peer, theirs


def test_losses_equal_torchvisions(trained):
    _, _, losses, _, theirs = trained
    pairs = {"loss_retina_cls": "classification", "loss_retina_reg": "bbox_regression"}
    assert set(losses) == set(pairs)
    for name, peer_name in pairs.items():
        assert theirs[peer_name] > 1e-2, f"{peer_name} says nothing"
        # Anchors and targets are float32 on both sides.
        torch.testing.assert_close(
            losses[name].double(), theirs[peer_name].double(), rtol=1e-6, atol=0
        )


def test_gradients_of_all_parameters_equal_torchvisions(trained):
    name, ours, _, peer, _ = trained
    gradients = {key: value.grad for key, value in peer.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    rows = gradients["head.classification_head.cls_logits.bias"].view(9, CLASSES)
    assert rows[:, 0].abs().max() < 1e-10 * rows.abs().max()  # so that nothing is lost with them
    # The importer renames gradients as it renames weights; norm statistics stay as they are.
    with torch.no_grad():
        for key, value in peer.named_parameters():
            value.copy_(gradients[key])
    compare = make_ours(peer, name, CLASSES, MODEL__BACKBONE__FREEZE_CONV_BODY_AT=0)
    expected = dict(compare.named_parameters())
    assert {key for key, _ in ours.named_parameters()} == set(expected)
    worst = {
        key: ((value.grad - expected[key]).norm() / expected[key].norm()).item()
        for key, value in ours.named_parameters()
    }
    assert max(worst.values()) < 1e-5, sorted(worst.items(), key=lambda item: -item[1])[:5]
