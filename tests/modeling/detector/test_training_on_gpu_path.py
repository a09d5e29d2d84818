"""Where waiting for the device is dear, sizes are fixed: the same losses, and nothing waits."""

import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from maskrcnn_lib.layers._library import ops_available
from maskrcnn_lib.modeling import outputs
from maskrcnn_lib.modeling.losses import mean_losses
from maskrcnn_lib.modeling.packed_masks import PackedMasks
from maskrcnn_lib.modeling.roi_heads import regions
from maskrcnn_lib.modeling.targets import Targets
from maskrcnn_lib.structures.flat_polygons import FlatPolygons
from maskrcnn_lib.structures.image_list import ImageList
from maskrcnn_lib.structures.keypoint import Keypoints

CONFIGS = [
    "mmdet/point-rend_r50-caffe_fpn_ms-1x_coco",
    "e2e_mask_rcnn_R_50_FPN_1x",
    "e2e_mask_rcnn_R_50_C4_1x",
    "e2e_keypoint_rcnn_R_50_FPN_1x",
    "mmdet/cascade-mask-rcnn_r50_fpn_1x_coco",
    "d2go/mask_rcnn_fbnetv3a_C4",
]
ONE_STAGE = ["retinanet/retinanet_R-50-FPN_1x", "mmdet/yolof_r50-c5_8xb8-1x_coco"]
POINTS = 2
OVERRIDES = {
    "MODEL__RESNETS__BACKBONE_OUT_CHANNELS": 64,
    "MODEL__NORM": "frozen",
    "MODEL__ROI_KEYPOINT_HEAD__CONV_LAYERS": [8],
    "MODEL__ROI_KEYPOINT_HEAD__NUM_CLASSES": POINTS,
}


def with_corners(target):
    """The target with two corners of each box as keypoints."""
    target = target[:]
    points = torch.cat((target.bbox.view(-1, POINTS, 2), torch.ones(len(target), POINTS, 1)), dim=2)
    target.add_field("keypoints", Keypoints(points, target.size))
    return target


@pytest.mark.parametrize(("per_batch", "hardest"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("name", CONFIGS[:-1])
def test_fixed_sizes_give_the_losses_and_gradients_of_exact_ones(
    monkeypatch, make_tiny_model, toy_batch, make_target, name, per_batch, hardest
):
    images, targets = toy_batch
    targets = [with_corners(targets[0]), with_corners(make_target([], []))]

    def train():
        model = make_tiny_model(
            name,
            MODEL__RPN__FPN_POST_NMS_PER_BATCH=per_batch,
            MODEL__ROI_HEADS__HARDEST_REGIONS=hardest,
            **OVERRIDES,
        )
        losses = model(images, targets, seeds=[1, 2])
        sum(losses.values()).backward()
        return losses, {key: value.grad for key, value in model.named_parameters()}

    exact, exact_gradients = train()
    for module in (outputs, regions):
        monkeypatch.setattr(module, "host_may_wait", lambda values: False)
    fixed, fixed_gradients = train()
    for key, value in exact.items():
        torch.testing.assert_close(fixed[key], value)
    for key, value in exact_gradients.items():
        scale = value.abs().max().item()
        torch.testing.assert_close(fixed_gradients[key], value, rtol=1e-3, atol=1e-4 * scale)


def take_kernels_for_present(monkeypatch):
    """Operators give the shapes of their kernels' results, and do not fall back to references."""
    for module in list(sys.modules.values()):
        if not module.__name__.startswith("maskrcnn_lib.layers"):
            continue
        for question in ("ops_available", "cuda_ops_available"):
            if hasattr(module, question):
                monkeypatch.setattr(module, question, lambda device=None: True)


@pytest.mark.skipif(not ops_available(), reason="needs the compiled operators")
@pytest.mark.parametrize("name", CONFIGS)
def test_the_losses_of_a_gpu_never_wait_for_it(monkeypatch, make_tiny_model, name):
    """On a GPU that is not there: its tensors have shapes but no values that one could look at."""
    take_kernels_for_present(monkeypatch)
    integers = {"dtype": torch.int64}
    with FakeTensorMode(), torch.device("cuda"):
        model = make_tiny_model(name, **OVERRIDES)
        images = ImageList(torch.empty(2, 3, 128, 160), [(128, 160), (120, 160)])
        masks = PackedMasks(
            FlatPolygons(
                torch.empty(40, 2, dtype=torch.float64),
                torch.empty(9, **integers),
                torch.empty(7, **integers),
            ),
            torch.empty(2, 128, 160, dtype=torch.bool),
            torch.empty(2, 5, **integers),
            torch.empty(2, 5, **integers),
        )
        targets = Targets(
            torch.empty(2, 5, 4),
            torch.empty(2, 5, **integers),
            torch.empty(2, 5, dtype=torch.bool),
            torch.empty(2, **integers),
            packed_masks=masks,
            keypoints=torch.empty(2, 5, POINTS, 3),
        )
        features = model.backbone(images.tensors)
        proposals, losses = model.rpn.learn(images, features, targets)
        losses |= model.roi_heads.learn(features, proposals, targets, images.size_tensor())
        total = sum(mean_losses(losses).values())
        more = 6 if "cascade" in name else 1 if "point-rend" in name else 0
        assert len(losses) == 5 + more
        assert total.device.type == "cuda"
        assert total.shape == ()


@pytest.mark.skipif(not ops_available(), reason="needs the compiled operators")
@pytest.mark.parametrize("name", ONE_STAGE)
def test_neither_losses_nor_detections_of_one_stage_wait_for_a_gpu(
    monkeypatch, make_tiny_model, name
):
    take_kernels_for_present(monkeypatch)
    integers = {"dtype": torch.int64}
    with FakeTensorMode(), torch.device("cuda"):
        model = make_tiny_model(name, **OVERRIDES)
        images = ImageList(torch.empty(2, 3, 128, 160), [(128, 160), (120, 160)])
        targets = Targets(
            torch.empty(2, 5, 4),
            torch.empty(2, 5, **integers),
            torch.empty(2, 5, dtype=torch.bool),
            torch.empty(2, **integers),
        )
        features = model.backbone(images.tensors)
        total = sum(mean_losses(model.rpn.learn(images, features, targets)).values())
        found = model.eval().detect(images)
    assert total.device.type == found.boxes.device.type == "cuda"
    assert found.boxes.shape == (2, 100, 4)
