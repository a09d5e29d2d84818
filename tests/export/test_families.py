"""Models of each kind as files: narrow ones with random weights find the same in both formats."""

import pytest

from maskrcnn_lib.export.agreement import compare, open_file
from maskrcnn_lib.export.files import FORMATS, export_detector

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
pytest.importorskip("torchvision")

pytestmark = pytest.mark.slow

# Pixels about 1 instead of 100, so that scores of random weights are not 1, all of them.
SMALL = {"INPUT.PIXEL_STD": [57.4, 57.1, 58.4]}
FAMILIES = {
    "faster_c4": (
        "e2e_faster_rcnn_R_50_C4_1x",
        SMALL | {"MODEL.RESNETS.BACKBONE_OUT_CHANNELS": 64},
    ),
    "mask_fpn": ("torchvision/maskrcnn_resnet50_fpn", {}),
    "cascade": ("mmdet/cascade-mask-rcnn_r50_fpn_1x_coco", {}),
    "mask_scoring": ("mmdet/ms-rcnn_r50-caffe_fpn_1x_coco", SMALL),
    "point_rend": ("mmdet/point-rend_r50-caffe_fpn_ms-1x_coco", SMALL),
    "retinanet": ("torchvision/retinanet_resnet50_fpn", {"MODEL.RETINANET.NUM_CLASSES": 4}),
    "yolof": ("mmdet/yolof_r50-c5_8xb8-1x_coco", SMALL | {"MODEL.YOLOF.NUM_CLASSES": 4}),
    "deformable": ("dcn/e2e_mask_rcnn_mdconv_R_50_FPN_1x", SMALL),
    "timm": (
        "other_bodies/mask_rcnn_timm_resnet50d_fpn",
        {"MODEL.BACKBONE.CONV_BODY": "timm/resnet18d-FPN"},
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_files_find_the_same(family, narrow_detector, photo, tmp_path):
    config, keys = FAMILIES[family]
    detector = narrow_detector(config, **keys)
    images = [photo("chelsea"), photo("astronaut").transpose(1, 0, 2)[:, :300]]
    for kind in FORMATS:
        run = open_file(export_detector(detector, tmp_path / f"model.{kind}", kind=kind))
        results = [compare(detector, run, image) for image in images]
        assert all(result.good for result in results), (kind, list(map(str, results)))
        assert all(result.counts[0] >= 2 for result in results)
