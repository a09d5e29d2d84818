"""Models with mmdetection's configs compute as mmdetection: anchors, offsets, RoIAlign."""

import math

import torch

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.detector import build_detection_model
from maskrcnn_lib.modeling.poolers import build_pooler
from maskrcnn_lib.modeling.rpn.anchor_generator import build_anchor_generator, cell_anchors


def _model(config):
    with torch.device("meta"):
        return build_detection_model(get_cfg(config))


def test_anchors_are_not_rounded_and_centred_on_the_corner_of_the_grid():
    generator = build_anchor_generator(get_cfg("mmdet/mask-rcnn_r50_fpn_1x_coco"))
    # Stride 4, scale 8, ratio 0.5: width 32 * sqrt(2), height 32 / sqrt(2).
    half = torch.tensor([16 * math.sqrt(2), 16 / math.sqrt(2)])
    torch.testing.assert_close(generator.cell_anchors[0][0], torch.cat((-half, half)))
    # P6 of an image of 800 pixels has 13 cells: they stand 64 pixels apart, not 800 // 13.
    shapes = [(1, 1), (1, 1), (1, 1), (1, 1), (13, 13)]
    grid = generator(shapes, (800, 800), torch.device("cpu"))[4].view(13, 13, 3, 4)
    assert (grid[3, 5, 1] - grid[0, 0, 1]).tolist() == [320, 192, 320, 192]


def test_anchors_of_version_1_are_rounded_closed_boxes():
    # 9 pixels, the first is 0 and the last is 8.
    assert _closed(9, 1, 9) == [0, 0, 9, 9]
    # Ratio 0.5: 45.25 x 22.63 pixels around pixel 1.5, from -20.6 to 23.6 and -9.3 to 12.3.
    assert _closed(32, 0.5, 4) == [-21, -9, 25, 13]


def _closed(size, ratio, stride):
    return cell_anchors([size], [ratio], stride, "closed")[0].tolist()


def test_offsets_are_divided_by_the_standard_deviations():
    head = _model("mmdet/faster-rcnn_r50_fpn_1x_coco").roi_heads.box
    box = torch.tensor([[100.0, 100.0, 200.0, 150.0]])
    # Deviations (0.1, 0.1, 0.2, 0.2): the centre goes by 0.1 of the sides to (160, 130), and the
    # sides grow by exp(0.2).
    decoded = head.box_coder.decode(torch.tensor([[1.0, 1.0, 1.0, 1.0]]), box)
    half = torch.tensor([50.0, 25.0]) * math.exp(0.2)
    centre = torch.tensor([160.0, 130.0])
    torch.testing.assert_close(decoded[0], torch.cat((centre - half, centre + half)))


def test_boxes_shrink_to_16_thousandths_at_most():
    model = _model("mmdet/faster-rcnn_r50_fpn_1x_coco")
    box = torch.tensor([[0.0, 0.0, 1000.0, 1000.0]])
    tiny = torch.tensor([[0.0, 0.0, -1000.0, -1000.0]])
    for coder in (model.rpn.box_coder, model.roi_heads.box.box_coder):
        decoded = coder.decode(tiny, box)
        torch.testing.assert_close(decoded, torch.tensor([[492.0, 492.0, 508.0, 508.0]]))


def test_roi_align_takes_pixels_by_their_centres():
    cfg = get_cfg("mmdet/faster-rcnn_r50_fpn_1x_coco", ["MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 1])
    pooler = build_pooler(cfg, "ROI_BOX_HEAD")
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)  # the value of a cell is its column
    rois = torch.tensor([[0.0, 4.0, 4.0, 20.0, 20.0]])
    # Columns 1 to 5 of the map of stride 4 have their middle at 3, which is 0.5 behind cell 2.
    maps = [ramp] + [ramp[..., :1, :1]] * 3
    assert pooler(maps, rois).item() == 2.5
