"""The keypoint head: targets and loss by hand, any number of keypoints, beside other heads."""

import pytest
import torch

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.engine.postprocess import restore_original_size
from maskrcnn_lib.modeling.outputs import Detections
from maskrcnn_lib.modeling.roi_heads.keypoint_head.inference import locate_keypoints
from maskrcnn_lib.modeling.roi_heads.keypoint_head.keypoint_head import build_roi_keypoint_head
from maskrcnn_lib.modeling.roi_heads.keypoint_head.loss import keypoint_loss
from maskrcnn_lib.modeling.roi_heads.keypoint_head.targets import keypoint_targets, points_to_cells
from maskrcnn_lib.modeling.roi_heads.regions import Rows
from maskrcnn_lib.modeling.roi_heads.roi_heads import build_roi_heads
from maskrcnn_lib.modeling.targets import Targets, batch_targets
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.keypoint import Keypoints, PersonKeypoints


def test_a_point_belongs_to_the_cell_it_lies_in_and_the_far_edge_to_the_last():
    box = torch.tensor([[10.0, 20.0, 66.0, 132.0]])  # cells of 1 x 2 pixels
    points = torch.tensor([[[10.0, 20.0], [10.99, 21.99], [11.0, 22.0], [66.0, 132.0]]])
    cells, inside = points_to_cells(points, box, 56)
    assert cells.tolist() == [[0, 0, 57, 56 * 56 - 1]]
    assert inside.all()


def test_points_outside_and_boxes_without_area_give_no_cell():
    boxes = torch.tensor([[10.0, 20.0, 66.0, 132.0], [5.0, 5.0, 5.0, 9.0]])
    points = torch.tensor([[[9.99, 30.0], [30.0, 132.1]], [[5.0, 5.0], [5.0, 9.0]]])
    cells, inside = points_to_cells(points, boxes, 56)
    assert not inside.any()
    assert not cells.any()


def make_targets(*, points):
    """One image with two objects, whose boxes are (0, 0, 40, 40) and (50, 50, 90, 90)."""
    boxes = torch.tensor([[[0.0, 0.0, 40.0, 40.0], [50.0, 50.0, 90.0, 90.0]]])
    ones = torch.ones(1, 2, dtype=torch.int64)
    keypoints = torch.tensor([points], dtype=torch.float32)
    return Targets(boxes, ones, ones.bool(), ones[0, :1], keypoints=keypoints)


def make_rows(boxes, matched):
    count = len(boxes)
    rois = torch.cat((torch.zeros(count, 1), torch.tensor(boxes, dtype=torch.float32)), dim=1)
    ones = torch.ones(count, dtype=torch.int64)
    return Rows(rois, ones, torch.tensor(matched), ones.bool(), torch.arange(count))


def test_labelled_points_in_the_region_teach_whether_visible_or_hidden():
    targets = make_targets(
        points=[[[0, 0, 0], [8, 2, 1], [4, 39, 2]], [[60, 60, 2], [89, 89, 2], [0, 0, 0]]]
    )
    rows = make_rows([[0, 0, 40, 20], [50, 50, 90, 90]], [0, 1])
    cells, valid = keypoint_targets(targets, rows, 4)
    assert valid.tolist() == [[False, True, False], [True, True, False]]
    assert cells[valid].tolist() == [0 * 4 + 0, 1 * 4 + 1, 3 * 4 + 3]


def test_rows_that_fill_up_teach_nothing():
    targets = make_targets(points=[[[8, 8, 2]], [[60, 60, 2]]])
    rows = make_rows([[0, 0, 40, 40], [0, 0, 40, 40]], [0, 0])
    rows = rows._replace(valid=torch.tensor([True, False]))
    assert keypoint_targets(targets, rows, 4)[1].tolist() == [[True], [False]]


def test_closed_pixel_boxes_end_a_pixel_earlier_and_points_lie_half_a_pixel_before():
    """maskrcnn-benchmark holds this box as 0, 0, 39, 39 and the points as pixels 19 and 20:
    19 * 56 / 39 = 27.28 and 20 * 56 / 39 = 28.72."""
    targets = make_targets(points=[[[19.5, 20.5, 2]], [[60, 60, 2]]])
    rows = make_rows([[0, 0, 40, 40]], [0])
    cells, valid = keypoint_targets(targets, rows, 56, box_end_offset=-1.0)
    assert valid.all()
    assert cells.tolist() == [[28 * 56 + 27]]


def test_maskrcnn_benchmark_needs_a_point_inside_the_object_itself():
    """The first object's points lie outside its box but inside the region."""
    targets = make_targets(points=[[[44, 44, 2], [5, 5, 0]], [[60, 60, 2], [95, 95, 2]]])
    rows = make_rows([[0, 0, 48, 48], [50, 50, 100, 100]], [0, 1])
    expected = {False: [[True, False], [True, True]], True: [[False, False], [True, True]]}
    for needed, valid in expected.items():
        found = keypoint_targets(targets, rows, 4, needs_point_in_object=needed)[1]
        assert found.tolist() == valid


def test_the_loss_is_the_mean_cross_entropy_of_the_keypoints_that_count():
    logits = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    cells = torch.tensor([[3, 15], [0, 7], [9, 9]])
    valid = torch.tensor([[True, False], [True, True], [False, False]])
    loss = keypoint_loss(logits, cells, valid)
    by_hand = [
        logits[k, p].exp().sum().log() - logits[k, p].flatten()[cells[k, p]]
        for k, p in ((0, 0), (1, 0), (1, 1))
    ]
    torch.testing.assert_close(loss.total / loss.count, sum(by_hand) / 3)


def test_no_objects_teach_nothing():
    boxes = torch.zeros(1, 0, 4)
    none = torch.zeros(1, 0, dtype=torch.int64)
    targets = Targets(boxes, none, none.bool(), none[:, 0:0], keypoints=torch.zeros(1, 0, 5, 3))
    cells, valid = keypoint_targets(targets, make_rows([[0, 0, 9, 9]], [0]), 4)
    assert (cells.shape, valid.any()) == ((1, 5), torch.tensor(False))


@pytest.mark.parametrize("name", ["torchvision", "maskrcnn_benchmark", "detectron2", "d2go"])
def test_a_cell_that_was_learned_is_found_again_where_it_was(name):
    """From COCO's pixel through the head and back, at another size of the image."""
    dialect = get_dialect(name)
    box, end = torch.tensor([[100.0, 40.0, 156.0, 96.0]]), dialect.box_end_offset
    cell, _ = points_to_cells(torch.tensor([[[131.3, 70.6]]]), box, 56)
    logits = torch.zeros(1, 1, 56, 56)
    logits[0, 0].view(-1)[cell] = 5.0
    boxlist = BoxList(box - torch.tensor([0.0, 0.0, end, end]), (200, 100))
    found = locate_keypoints(logits, boxlist.bbox, box_end_offset=end)
    keypoints = Keypoints(torch.cat((found[..., :2], torch.ones(1, 1, 1)), dim=2), (200, 100))
    boxlist.add_field("keypoints", keypoints)
    restored = restore_original_size(boxlist, (400, 200), dialect).get_field("keypoints")
    # The toolbox's own arithmetic: the cell's middle, scaled; detectron2 subtracts 0.5 at the end.
    end_of_it = 0.5 if name in ("detectron2", "d2go") else 0.0
    expected = [2 * 131.5 - end_of_it, 2 * 70.5 - end_of_it, 1.0]
    assert restored.keypoints[0, 0].tolist() == pytest.approx(expected, abs=1e-3)
    assert restored.size == (400, 200)


def some_detections(count):
    boxes = torch.tensor([5.0, 5.0, 60.0, 90.0]).expand(2, count, 4)
    return Detections(
        boxes,
        torch.ones(2, count),
        torch.ones(2, count, dtype=torch.int64),
        torch.ones(2, count, dtype=torch.bool),
    )


@pytest.mark.parametrize(
    ("name", "in_channels"),
    [("torchvision/keypointrcnn_resnet50_fpn", 16), ("d2go/keypoint_rcnn_fbnetv3a_dsmask_C4", 88)],
)
@pytest.mark.parametrize(("count", "points"), [(2, 17), (0, 17), (1, 4)])
def test_every_head_places_any_number_of_keypoints(name, in_channels, count, points):
    overrides = ["MODEL.ROI_KEYPOINT_HEAD.CONV_LAYERS", [8, 8]]
    overrides += ["MODEL.ROI_KEYPOINT_HEAD.NUM_CLASSES", points]
    cfg = get_cfg(name, overrides)
    head = build_roi_keypoint_head(cfg, in_channels).eval()
    scales = head.feature_extractor.pooler.scales
    features = [torch.randn(2, in_channels, int(128 * s), int(160 * s)) for s in scales]
    detections = some_detections(count)
    with torch.inference_mode():
        one = head.predictor(head.feature_extractor(features, torch.zeros(1, 5)))
        keypoints = head(features, detections).keypoints
    assert one.shape[-1] == cfg.MODEL.ROI_KEYPOINT_HEAD.RESOLUTION
    assert keypoints.shape == (2, count, points, 3)
    places, corners = keypoints[..., :2], detections.boxes[:, :, None]
    assert ((places >= corners[..., :2]) & (places <= corners[..., 2:])).all()


def test_masks_and_keypoints_go_together(make_tiny_model, toy_batch):
    model = make_tiny_model(
        "e2e_keypoint_rcnn_R_50_FPN_1x",
        MODEL__MASK_ON=True,
        MODEL__ROI_KEYPOINT_HEAD__CONV_LAYERS=[16],
        MODEL__ROI_KEYPOINT_HEAD__NUM_CLASSES=3,
        MODEL__ROI_HEADS__SCORE_THRESH=0.0,
    )
    images, targets = toy_batch
    losses = model(images, [with_keypoints(target, 3) for target in targets])
    assert losses["loss_mask"] > 0
    assert losses["loss_kp"] > 0
    found = model.eval()(images)
    assert all(set(boxes.fields()) >= {"mask", "keypoints"} for boxes in found)
    keypoints = found[0].get_field("keypoints")
    assert type(keypoints) is Keypoints
    assert keypoints.get_field("logits").shape == keypoints.keypoints.shape[:2]
    assert (keypoints.keypoints[..., 2] == 1).all()


def with_keypoints(target, count):
    """The target with labelled keypoints on the diagonal of each box."""
    target = target[:]
    share = torch.linspace(0.2, 0.8, count)[None, :, None]
    places = target.bbox[:, None, :2] + share * (target.bbox[:, 2:] - target.bbox[:, :2])[:, None]
    points = torch.cat((places, torch.full((*places.shape[:2], 1), 2.0)), dim=2)
    target.add_field("keypoints", Keypoints(points, target.size))
    return target


def test_seventeen_keypoints_are_a_persons(make_tiny_model, toy_batch):
    model = make_tiny_model(
        "e2e_keypoint_rcnn_R_50_FPN_1x", MODEL__ROI_KEYPOINT_HEAD__CONV_LAYERS=[16]
    ).eval()
    for boxes in model(toy_batch[0]):
        assert isinstance(boxes.get_field("keypoints"), PersonKeypoints)


def test_an_extractor_that_cannot_be_shared_is_named():
    cfg = get_cfg("torchvision/keypointrcnn_resnet50_fpn")
    cfg.MODEL.ROI_KEYPOINT_HEAD.SHARE_BOX_FEATURE_EXTRACTOR = True
    with pytest.raises(ValueError, match=r"ROI_KEYPOINT_HEAD\.SHARE_BOX_FEATURE_EXTRACTOR"):
        build_roi_heads(cfg, 256)


def test_targets_without_keypoints_or_with_others_are_refused(make_target):
    target = make_target([[0, 0, 10, 10]], [1])
    arguments = {"device": torch.device("cpu"), "num_classes": 4, "with_masks": False}
    with pytest.raises(KeyError, match="'keypoints'"):
        batch_targets([target], [(96, 96)], num_keypoints=3, **arguments)
    with pytest.raises(ValueError, match=r"has 5 keypoints per object, but the model 3"):
        batch_targets([with_keypoints(target, 5)], [(96, 96)], num_keypoints=3, **arguments)
    empty = make_target([], [])
    empty.add_field("keypoints", Keypoints([], (96, 96)))
    both = batch_targets(
        [empty, with_keypoints(target, 3)], [(96, 96)] * 2, num_keypoints=3, **arguments
    )
    assert both.keypoints.shape == (2, 1, 3, 3)
    assert not both.keypoints[0].any()
