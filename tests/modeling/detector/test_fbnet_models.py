"""FBNet's architectures that no config names, and its keypoint head, as whole models."""

import math

import pytest
import torch

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.image_list import to_image_list
from maskrcnn_lib.structures.keypoint import make_keypoints

WIDTH, HEIGHT = 128, 96
FEW = {
    "MODEL.RPN.PRE_NMS_TOP_N_TRAIN": 200,
    "MODEL.RPN.POST_NMS_TOP_N_TRAIN": 50,
    "MODEL.RPN.POST_NMS_TOP_N_TEST": 50,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 32,
}
KEYPOINTS = {
    "MODEL.KEYPOINT_ON": True,
    "MODEL.ROI_BOX_HEAD.NUM_CLASSES": 2,
    "MODEL.ROI_KEYPOINT_HEAD.FEATURE_EXTRACTOR": "FBNet.roi_head_keypoints",
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION": 6,
    "MODEL.ROI_KEYPOINT_HEAD.SHARE_BOX_FEATURE_EXTRACTOR": False,
}


def target(keypoints):
    boxes = torch.tensor([[8.0, 8.0, 72.0, 80.0], [50.0, 20.0, 120.0, 90.0]])
    result = BoxList(boxes, (WIDTH, HEIGHT))
    result.add_field("labels", torch.tensor([1, 1]))
    points = torch.full((2, keypoints, 3), 2.0)
    points[..., :2] = boxes[:, None, :2] + 20
    result.add_field("keypoints", make_keypoints(points, (WIDTH, HEIGHT), None))
    return result


@pytest.mark.parametrize(
    "keys",
    [
        {"MODEL.FBNET.ARCH": "cham_v2"},
        {"MODEL.FBNET.ARCH": "mobilenet_v2", "MODEL.RPN.RPN_HEAD": "SingleConvRPNHead"},
        {"MODEL.FBNET.ARCH": "xirb16d_dsmask", **KEYPOINTS},
    ],
    ids=["cham_v2", "mobilenet_v2", "keypoints"],
)
def test_model_detects_and_learns(keys):
    torch.manual_seed(0)
    words = [word for pair in (FEW | keys).items() for word in pair]
    cfg = get_cfg("e2e_faster_rcnn_fbnet", words)
    model = build_detection_model(cfg)
    images = to_image_list(torch.randn(2, 3, HEIGHT, WIDTH))
    losses = model(images, [target(17)] * 2, seeds=[0, 1])
    total = sum(losses.values())
    total.backward()
    assert math.isfinite(total.item())
    assert ("loss_kp" in losses) == cfg.MODEL.KEYPOINT_ON
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    with torch.inference_mode():
        results = model.eval()(images)
    for result in results:
        assert torch.isfinite(result.get_field("scores")).all()
        if cfg.MODEL.KEYPOINT_ON:
            assert result.get_field("keypoints").keypoints.shape == (len(result), 17, 3)
