"""Each model that a config describes detects and learns, at small width and size.

Schedules, data and weights make no difference here: configs with the same model are tried once.
"""

import math

import pytest
import torch

from maskrcnn_lib.config import CfgNode, get_cfg, list_configs
from maskrcnn_lib.config.architecture import class_section, only_proposes
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.image_list import ImageList, to_image_list
from maskrcnn_lib.structures.keypoint import make_keypoints
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

# Widths of a ResNet's parts that group norms of 32 groups divide, and as few regions as will do.
_SMALL = {
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 32,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM": 64,
    "MODEL.ROI_BOX_HEAD.CONV_HEAD_DIM": 32,
    "MODEL.ROI_MASK_HEAD.CONV_LAYERS": [32, 32],
    "MODEL.ROI_KEYPOINT_HEAD.CONV_LAYERS": [32, 32],
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 32,
    "MODEL.YOLOF.ENCODER_WIDTH": 8,
    "MODEL.RPN.PRE_NMS_TOP_N_TRAIN": 200,
    "MODEL.RPN.PRE_NMS_TOP_N_TEST": 200,
    "MODEL.RPN.POST_NMS_TOP_N_TRAIN": 50,
    "MODEL.RPN.POST_NMS_TOP_N_TEST": 50,
    "MODEL.RPN.FPN_POST_NMS_TOP_N_TRAIN": 50,
    "MODEL.RPN.FPN_POST_NMS_TOP_N_TEST": 50,
}
_SIZE = (128, 96)  # width and height of the images, in pixels


def _small_config(name: str) -> CfgNode:
    keys = dict(_SMALL)
    described = get_cfg(name).MODEL
    keys["MODEL.RESNETS.WIDTH_PER_GROUP"] = 32 if described.RESNETS.NUM_GROUPS == 1 else 1
    if "FPN" in described.BACKBONE.CONV_BODY or "YOLOF" in described.BACKBONE.CONV_BODY:
        keys["MODEL.RESNETS.BACKBONE_OUT_CHANNELS"] = 32
    return get_cfg(name, [item for pair in keys.items() for item in pair])


def _different_models() -> list[str]:
    """Names of configs, one for each model."""
    names: dict[str, str] = {}
    for name in list_configs():
        model = _small_config(name).MODEL
        model.WEIGHT = ""
        names.setdefault(str(model), name)
    return sorted(names.values())


def _target(cfg: CfgNode) -> BoxList:
    """Two objects with all that any head learns from."""
    boxes = torch.tensor([[8.0, 8.0, 72.0, 80.0], [50.0, 20.0, 120.0, 90.0]])
    target = BoxList(boxes, _SIZE)
    last_class = cfg.MODEL[class_section(cfg)].NUM_CLASSES - 1
    target.add_field("labels", torch.tensor([1, last_class]))
    if cfg.MODEL.MASK_ON:
        outlines = [[[x1, y1, x2, y1, x2, y2, x1, y2]] for x1, y1, x2, y2 in boxes.tolist()]
        target.add_field("masks", SegmentationMask(outlines, _SIZE))
    if cfg.MODEL.KEYPOINT_ON:
        points = torch.full((2, cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_CLASSES, 3), 2.0)
        points[..., :2] = boxes[:, None, :2] + 20
        target.add_field("keypoints", make_keypoints(points, _SIZE, None))
    return target


def _proposals() -> BoxList:
    boxes = torch.tensor(
        [[8.0, 8.0, 72.0, 80.0], [40.0, 20.0, 110.0, 90.0], [0.0, 0.0, 30.0, 30.0]]
    )
    proposals = BoxList(boxes, _SIZE)
    proposals.add_field("objectness", torch.tensor([0.9, 0.8, 0.7]))
    return proposals


@pytest.mark.slow
@pytest.mark.parametrize("name", _different_models())
def test_model_detects_and_learns(name):
    torch.manual_seed(0)
    cfg = _small_config(name)
    model = build_detection_model(cfg)
    images = to_image_list(torch.randn(2, 3, _SIZE[1], _SIZE[0]))
    if cfg.MODEL.LOAD_PROPOSALS:
        images = ImageList(images.tensors, images.image_sizes, proposals=[_proposals()] * 2)
    with torch.inference_mode():
        results = model.eval()(images)
    assert len(results) == 2
    field = "objectness" if only_proposes(cfg) else "scores"
    for result in results:
        assert result.size == _SIZE
        assert torch.isfinite(result.get_field(field)).all()

    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-4)
    losses = model(images, [_target(cfg), _target(cfg)], seeds=[0, 1])
    total = sum(losses.values())
    total.backward()
    assert math.isfinite(total.item())
    assert any(key.startswith("loss_mask") for key in losses) == cfg.MODEL.MASK_ON
    assert ("loss_kp" in losses) == cfg.MODEL.KEYPOINT_ON
    without_gradient = [
        n for n, p in model.named_parameters() if p.requires_grad and p.grad is None
    ]
    assert without_gradient == []
    assert all(torch.isfinite(p.grad).all() for p in parameters)
    optimizer.step()
