"""mmdetection's cascades beside its Faster and Mask R-CNN: what is said of them is all they add."""

import pytest

from maskrcnn_lib.config import get_cfg

# cascade-rcnn_r50_fpn of mmdetection: three stages at rising IoU, standard deviations of the
# offsets 0.1, 0.05, 0.033 and 0.2, 0.1, 0.067; smooth L1 with beta 1 (RPN: 1/9) where the others
# have L1; 2000 proposals in training, and anchors that leave the image are not trained.
CASCADE = {
    "MODEL.CLS_AGNOSTIC_BBOX_REG": (False, True),
    "MODEL.ROI_BOX_CASCADE_HEAD.IOUS": ((), (0.5, 0.6, 0.7)),
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": (-1, 1),
    "MODEL.RPN.SMOOTH_L1_BETA": (-1, 1 / 9),
    "MODEL.RPN.STRADDLE_THRESH": (-1, 0),
    "MODEL.RPN.POST_NMS_TOP_N_TRAIN": (1000, 2000),
    "MODEL.RPN.FPN_POST_NMS_TOP_N_TRAIN": (1000, 2000),
}
WEIGHTS = "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS"


@pytest.mark.parametrize("body", ["r50_fpn", "r50-caffe_fpn", "r101_fpn"])
@pytest.mark.parametrize(("cascade", "plain"), [("cascade", "faster"), ("cascade-mask", "mask")])
def test_cascade_adds_its_stages_to_the_model_of_one_stage(cascade, plain, body):
    ours = get_cfg(f"mmdet/{cascade}-rcnn_{body}_1x_coco").flat()
    others = get_cfg(f"mmdet/{plain}-rcnn_{body}_1x_coco").flat()
    weights = ours.pop(WEIGHTS)
    assert weights[:2] == others.pop(WEIGHTS)[:2] == [[10, 10, 5, 5], [20, 20, 10, 10]]
    assert weights[2] == pytest.approx([1 / 0.033, 1 / 0.033, 1 / 0.067, 1 / 0.067])
    changes = {key: (others[key], value) for key, value in ours.items() if others[key] != value}
    assert changes == CASCADE
    assert ours["MODEL.ROI_BOX_CASCADE_HEAD.LOSS_WEIGHTS"] == (1, 0.5, 0.25)
