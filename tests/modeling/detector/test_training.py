"""Training the whole detector: the losses fall, nothing is left out, and nothing else matters."""

import pytest
import torch
from torch import nn

from maskrcnn_lib.structures.image_list import to_image_list
from maskrcnn_lib.structures.keypoint import Keypoints

BOX_LOSSES = {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"}
LOSSES = BOX_LOSSES | {"loss_mask"}
THREE_POINTS = {"MODEL__ROI_KEYPOINT_HEAD__NUM_CLASSES": 3}


def train(model, images, targets, *, steps, lr):
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9)
    history = []
    for _ in range(steps):
        losses = model(images, targets, seeds=[1, 2])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        history.append({name: value.item() for name, value in losses.items()})
    return history


def with_middles(target):
    """The target with three keypoints for each object, all in the middle of its box."""
    target = target[:]
    places = (target.bbox[:, :2] + target.bbox[:, 2:]) / 2
    points = torch.cat((places, torch.ones(len(target), 1)), dim=1)
    target.add_field("keypoints", Keypoints(points[:, None].expand(-1, 3, -1), target.size))
    return target


def test_all_losses_fall_on_two_images(make_tiny_model, toy_batch):
    model = make_tiny_model(MODEL__NORM="group", MODEL__GROUP_NORM__NUM_GROUPS=4)
    history = train(model, *toy_batch, steps=40, lr=0.02)
    assert set(history[0]) == LOSSES
    total = [sum(losses.values()) for losses in history]
    assert total[-1] < 0.5 * total[0]
    assert history[-1]["loss_mask"] < history[0]["loss_mask"]


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("e2e_mask_rcnn_R_50_FPN_1x", {}),
        ("e2e_mask_rcnn_R_50_FPN_1x", {"MODEL__CLS_AGNOSTIC_BBOX_REG": True}),
        ("e2e_mask_rcnn_R_50_FPN_1x", {"MODEL__ROI_HEADS__HARDEST_REGIONS": True}),
        ("e2e_mask_rcnn_R_50_FPN_1x", {"MODEL__RPN__FPN_POST_NMS_PER_BATCH": True}),
        ("e2e_faster_rcnn_R_50_FPN_1x", {}),
        ("e2e_mask_rcnn_R_50_C4_1x", {"MODEL__RESNETS__BACKBONE_OUT_CHANNELS": 64}),
        (
            "e2e_keypoint_rcnn_R_50_FPN_1x",
            {"MODEL__ROI_KEYPOINT_HEAD__CONV_LAYERS": [16], **THREE_POINTS},
        ),
        ("d2go/keypoint_rcnn_fbnetv3a_dsmask_C4", {"MODEL__NORM": "batch", **THREE_POINTS}),
        ("torchvision/maskrcnn_resnet50_fpn", {}),
        ("d2go/mask_rcnn_fbnetv3a_C4", {"MODEL__NORM": "batch"}),
        (
            "e2e_mask_rcnn_R_50_FPN_1x",
            {
                "MODEL__ROI_BOX_HEAD__FEATURE_EXTRACTOR": "FPNXconv1fcFeatureExtractor",
                "MODEL__ROI_BOX_HEAD__USE_GN": True,
                "MODEL__ROI_MASK_HEAD__USE_GN": True,
                "MODEL__FPN__USE_GN": True,
                "MODEL__NORM": "group",
                "MODEL__GROUP_NORM__NUM_GROUPS": 4,
            },
        ),
        ("e2e_faster_rcnn_R_50_FPN_1x", {"MODEL__NORM": "batch"}),
        ("e2e_faster_rcnn_R_50_FPN_1x", {"MODEL__NORM": "sync"}),
    ],
)
@pytest.mark.parametrize("objects", ["both", "one", "none"])
def test_every_parameter_gets_a_finite_gradient(
    make_tiny_model, toy_batch, make_target, name, overrides, objects
):
    model = make_tiny_model(name, **overrides)
    images, targets = toy_batch
    empty = make_target([], [])
    targets = {"both": targets, "one": [empty, targets[1]], "none": [empty, empty]}[objects]
    targets = [with_middles(target) for target in targets]
    losses = model(images, targets)
    expected = set(BOX_LOSSES)
    if "maskrcnn" in name.replace("_", ""):
        expected.add("loss_mask")
    if "keypoint" in name:
        expected.add("loss_kp")
    assert set(losses) == expected
    assert all(loss.dim() == 0 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    for parameter_name, value in model.named_parameters():
        assert value.grad is not None, parameter_name
        assert value.grad.isfinite().all(), parameter_name
    if objects == "none":
        for loss in set(losses) - {"loss_objectness", "loss_classifier"}:
            assert losses[loss] == 0
    for buffer_name, buffer in model.named_buffers():
        assert buffer.isfinite().all(), buffer_name


def test_a_model_without_heads_learns_proposals(make_tiny_model, toy_batch):
    model = make_tiny_model("e2e_faster_rcnn_R_50_FPN_1x", MODEL__RPN_ONLY=True)
    losses = model(*toy_batch)
    assert set(losses) == {"loss_objectness", "loss_rpn_box_reg"}
    assert min(losses.values()) > 0


def test_seeds_decide_what_is_drawn_and_nothing_else_does(make_tiny_model, toy_batch):
    model = make_tiny_model(MODEL__RPN__BATCH_SIZE_PER_IMAGE=16)
    images, targets = toy_batch

    def losses(seeds):
        with torch.no_grad():
            return torch.stack(list(model(images, targets, seeds=seeds).values()))

    torch.manual_seed(1)
    first = losses([1, 2])
    torch.manual_seed(2)
    assert losses(torch.tensor([1, 2])).tolist() == first.tolist()
    assert losses([3, 4]).tolist() != first.tolist()
    state = torch.get_rng_state()
    losses([1, 2])
    assert torch.equal(torch.get_rng_state(), state)


def test_the_order_of_the_images_does_not_matter(make_tiny_model, toy_batch):
    model = make_tiny_model()
    images, targets = toy_batch
    with torch.no_grad():
        forward = model(images, targets, seeds=[1, 2])
        backward = model(images.flip(0), targets[::-1], seeds=[2, 1])
    for name, value in forward.items():
        torch.testing.assert_close(backward[name], value)  # summed in another order


def test_training_works_in_bfloat16(make_tiny_model, toy_batch):
    model = make_tiny_model()
    with torch.no_grad():
        expected = model(*toy_batch, seeds=[1, 2])
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(*toy_batch, seeds=[1, 2])
    sum(losses.values()).backward()
    for name, value in losses.items():
        assert value.dtype == torch.float32
        # Eight bits of mantissa over fifty layers, and another choice of proposals.
        torch.testing.assert_close(value, expected[name], rtol=0.3, atol=0.05)
    assert all(value.grad.isfinite().all() for value in model.parameters())


def test_frozen_parts_of_the_body_stay_as_they_are(make_tiny_model, toy_batch):
    model = make_tiny_model(MODEL__NORM="batch", MODEL__BACKBONE__FREEZE_CONV_BODY_AT=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, *toy_batch, steps=1, lr=0.01)
    changed = {name for name, value in model.state_dict().items() if (value != before[name]).any()}
    frozen = ("backbone.body.stem.", "backbone.body.layer1.")
    assert not [name for name in changed if name.startswith(frozen)]
    assert "backbone.body.layer2.0.conv1.weight" in changed
    assert "backbone.body.layer2.0.bn1.running_mean" in changed


def test_targets_are_not_looked_at_in_evaluation(make_tiny_model, toy_batch):
    model = make_tiny_model().eval()
    images, targets = toy_batch
    with torch.no_grad():
        assert len(model(to_image_list(images), targets)) == 2


def test_unusable_targets_are_named(make_tiny_model, toy_batch, make_target):
    model = make_tiny_model()
    images, targets = toy_batch
    with pytest.raises(ValueError, match="target 1: label 9 of box 0"):
        model(images, [targets[0], make_target([[0, 0, 9, 9]], [9])])
    with pytest.raises(ValueError, match="1 targets for 2 images"):
        model(images, targets[:1])
