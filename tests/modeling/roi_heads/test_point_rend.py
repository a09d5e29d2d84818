"""PointRend: points in maps, the choice of uncertain ones, and masks that grow sharper."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.outputs import Detections
from maskrcnn_lib.modeling.roi_heads.mask_head.point_rend import PointRendHead, PointRule
from maskrcnn_lib.modeling.roi_heads.mask_head.point_sampling import (
    cell_middles,
    points_in_map,
    random_points,
    sample_points,
    training_points,
    uncertain_cells,
)
from maskrcnn_lib.modeling.roi_heads.mask_head.targets import mask_targets
from maskrcnn_lib.modeling.roi_heads.regions import Rows
from maskrcnn_lib.modeling.targets import batch_targets
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask

CONFIG = "mmdet/point-rend_r50-caffe_fpn_ms-1x_coco"
SMALL = {
    "MODEL__ROI_MASK_HEAD__POOLER_RESOLUTION": 8,
    "MODEL__ROI_MASK_HEAD__RESOLUTION": 4,
    "MODEL__POINT_HEAD__TRAIN_NUM_POINTS": 20,
    "MODEL__POINT_HEAD__FC_DIM": 16,
    "MODEL__POINT_HEAD__SUBDIVISION_STEPS": 3,
    "MODEL__POINT_HEAD__SUBDIVISION_NUM_POINTS": 50,
}


def some_points(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 4, 5, 7, generator=generator, dtype=dtype)
    # Also outside of the map and on its edges.
    points = 1.4 * torch.rand(6, 50, 2, generator=generator, dtype=dtype) - 0.2
    points[0, :4] = torch.tensor([[0.0, 0], [1, 1], [0, 1], [0.5, 0.5]])
    return maps, torch.tensor([0, 2, 2, 1, 0, 0]), points


def test_points_are_sampled_as_torchs_grid_sample_does():
    maps, owners, points = some_points()
    maps.requires_grad_()
    ours = sample_points(maps, owners, points)
    theirs = F.grid_sample(maps[owners], 2 * points[:, :, None] - 1, align_corners=False)[..., 0]
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(ours)
    gradients = [torch.autograd.grad((out * weights).sum(), maps)[0] for out in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_points_are_sampled_as_written_out_in_numpy():
    maps, owners, points = some_points(torch.float32)
    found = sample_points(maps, owners, points)
    height, width = maps.shape[2:]
    padded = np.pad(maps.double().numpy(), ((0, 0), (0, 0), (2, 4), (2, 4)))
    for row in range(len(points)):
        for number, (u, v) in enumerate(points[row].double().tolist()):
            x, y = u * width + 1.5, v * height + 1.5  # two cells further, less half a cell
            i, j = int(np.floor(y)), int(np.floor(x))
            square = padded[owners[row], :, i : i + 2, j : j + 2]
            expected = [1 - (y - i), y - i] @ square @ [1 - (x - j), x - j]
            np.testing.assert_allclose(found[row, :, number], expected, atol=1e-5)


def test_points_of_regions_lie_where_a_ramp_says():
    """A map whose values are the pixel coordinates of its cells' middles."""
    stride, height, width = 4, 16, 24
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    maps = (stride * torch.stack((x, y)))[None]
    rois = torch.tensor([[0.0, 10, 8, 50, 32], [0, 20, 20, 22, 60]])
    points = torch.tensor([[[0.0, 0], [0.25, 0.5]], [[0.5, 0.5], [1, 0.75]]])
    places = points_in_map(points, rois, (height, width), 1 / stride)
    found = sample_points(maps, rois[:, 0].long(), places).transpose(1, 2)
    expected = torch.tensor([[[10.0, 8], [20, 20]], [[21, 40], [22, 50]]])
    torch.testing.assert_close(found, expected)


def test_cells_near_one_half_are_the_uncertain_ones():
    logits = torch.tensor([[[3.0, -0.1], [-5.0, 0.2]], [[0.0, 9.0], [1.0, -8.0]]])
    cells = uncertain_cells(logits, 2)
    assert [sorted(row) for row in cells.tolist()] == [[1, 3], [0, 2]]
    middles = cell_middles(2, logits.device)[cells[0].sort().values]
    assert middles.tolist() == [[0.75, 0.25], [0.75, 0.75]]


def rows_and_targets(make_target, regions, seeds=(7, 8)):
    targets = batch_targets(
        [make_target([[8, 8, 56, 48]], [1])] * len(seeds),
        [(96, 96)] * len(seeds),
        device=torch.device("cpu"),
        num_classes=4,
        with_masks=True,
        seeds=list(seeds),
    )
    count = len(regions)
    rows = Rows(
        rois=torch.tensor(regions),
        labels=torch.ones(count, dtype=torch.int64),
        matched=torch.zeros(count, dtype=torch.int64),
        valid=torch.ones(count, dtype=torch.bool),
        positions=torch.arange(count),
    )
    return rows, targets


def test_random_points_are_uniform_and_follow_from_the_seeds(make_target):
    regions = [[0.0, 8, 8, 56, 48], [0, 8, 8, 56.5, 48], [1, 8, 8, 56, 48]]
    points = random_points(*rows_and_targets(make_target, regions), 4000)
    assert points.min() >= 0 and points.max() < 1
    counts = [np.histogram2d(*row.T.numpy(), bins=4, range=[[0, 1]] * 2)[0] for row in points]
    # 250 in each of 16 cells, with a standard deviation of 15.3
    assert all(abs(cells - 250).max() < 5 * 15.3 for cells in counts)
    assert (points[0] - points[1]).abs().min() > 0  # regions of an image have their own
    alone = random_points(*rows_and_targets(make_target, [[0.0, 8, 8, 56, 48]], (8,)), 4000)
    assert torch.equal(alone[0], points[2])  # whatever else the batch holds


def test_points_to_learn_from_lie_where_the_mask_is_uncertain(make_target):
    """The mask's edge is the middle line: three quarters of the points lie near it."""
    rows, targets = rows_and_targets(make_target, [[0.0, 8, 8, 56, 48]])
    logits = torch.linspace(-7, 7, 14).expand(1, 14, 14)
    settings = {"count": 200, "oversampling": 3.0, "uncertain_share": 0.75}
    points = training_points(logits, rows, targets, **settings)
    assert points.shape == (1, 200, 2)
    # The 150 of 600 uniform points that are nearest lie within 1/8 of the line, give or take.
    off = (points[0, :, 0] - 0.5).abs()
    assert off[:150].max() < 0.16
    assert (off[150:] > 0.25).float().mean() > 0.3


class Ramp(nn.Module):
    """Stands in for the extractor: the features of a point are its coordinates in the image."""

    def forward(self, features, rois):
        return rois

    def at(self, features, rois, points):
        pixels = rois[:, None, 1:3] + points * (rois[:, None, 3:] - rois[:, None, 1:3])
        return pixels.transpose(1, 2)


class Disc(nn.Module):
    """Stands in for both predictors: a disc around (40, 30) of radius 12, of class 2 of 3."""

    def forward(self, x, coarse=None):
        if coarse is None:  # the coarse mask of regions
            grid = cell_middles(7, x.device).expand(len(x), -1, -1)
            return self.forward(Ramp().at(None, x, grid), 0).unflatten(2, (7, 7))
        off = torch.stack((x[:, 0] - 40, x[:, 1] - 30)).norm(dim=0)
        return torch.stack((off - 99, 12 - off, off - 99), dim=1)


@pytest.mark.parametrize(("subdivisions", "side"), [(2, 28), (5, 224)])
def test_subdivision_finds_a_disc_to_the_pixel(subdivisions, side):
    """Only 784 pixels are looked at each time, those at the edge; the others must be right, too."""
    rule = PointRule(subdivisions=subdivisions)
    head = PointRendHead(Ramp(), Disc(), Disc(), rule=rule)
    boxes = torch.tensor([[[26.0, 16, 54, 44], [30.0, 30, 58, 37]], [[28.0, 10, 50, 50]] * 2])
    detections = Detections(
        boxes, torch.ones(2, 2), torch.full((2, 2), 2), torch.ones(2, 2, dtype=torch.bool)
    )
    with torch.inference_mode():
        masks = head([], detections).masks
    assert masks.shape == (2, 2, side, side)
    for mask, box in zip(masks.flatten(0, 1), boxes.flatten(0, 1), strict=True):
        y, x = torch.meshgrid(*[(torch.arange(side) + 0.5) / side] * 2, indexing="ij")
        x, y = box[0] + x * (box[2] - box[0]), box[1] + y * (box[3] - box[1])
        expected = (x - 40) ** 2 + (y - 30) ** 2 < 12**2
        assert torch.equal(mask > 0.5, expected)
    coarse = F.interpolate(
        Disc()(torch.cat((torch.zeros(1, 1), boxes[0, :1]), dim=1))[:, 1:2], (side, side)
    )
    assert not torch.equal(coarse[0, 0] > 0, masks[0, 0] > 0.5)  # which the coarse mask is not


def test_a_step_trains_every_layer(make_tiny_model, toy_batch, make_target):
    model = make_tiny_model(CONFIG, **SMALL)
    images, targets = toy_batch
    for batch in (targets, [make_target([], [])] * 2):
        model.zero_grad()
        losses = model(images, batch, seeds=[1, 2])
        assert {"loss_mask", "loss_point"} < set(losses)
        sum(losses.values()).backward()
        for name, value in model.named_parameters():
            assert value.grad is not None and value.grad.isfinite().all(), name
    assert losses["loss_point"] == 0  # without objects


def test_losses_of_one_and_of_two_images_are_the_same(make_tiny_model, toy_batch):
    model = make_tiny_model(CONFIG, **SMALL)
    images, targets = toy_batch
    with torch.no_grad():
        both = model([images[0], images[1]], targets, seeds=[1, 2])
        again = model([images[1], images[0]], targets[::-1], seeds=[2, 1])
    torch.testing.assert_close(both["loss_point"], again["loss_point"])


def test_a_head_learns_the_edges_of_a_triangle(make_tiny_model):
    """Coarse masks of 4 x 4 cannot show its sloping sides; those of 32 x 32 do after 150 steps."""
    box, corners = [16.0, 16, 80, 80], [16.0, 16, 80, 48, 16, 80]
    target = BoxList(torch.tensor([box]), (96, 96))
    target.add_field("labels", torch.tensor([1]))
    target.add_field("masks", SegmentationMask([[corners]], (96, 96)))
    targets = batch_targets(
        [target], [(96, 96)], device=torch.device("cpu"), num_classes=4, with_masks=True, seeds=[3]
    )
    bitmap = target.get_field("masks").get_mask_tensor().view(1, 1, 96, 96).float()
    torch.manual_seed(0)
    features = [F.avg_pool2d(bitmap, 4) * torch.randn(1, 16, 1, 1)]
    head = make_tiny_model(CONFIG, **SMALL).roi_heads.mask
    rows = Rows(
        rois=torch.tensor([[0.0, *box], [0, 12, 20, 76, 90]]),
        labels=torch.ones(2, dtype=torch.int64),
        matched=torch.zeros(2, dtype=torch.int64),
        valid=torch.ones(2, dtype=torch.bool),
        positions=torch.arange(2),
    )
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    for step in range(150):
        optimizer.zero_grad()
        losses = head.learn(
            features, rows, targets._replace(seeds=torch.tensor([step]), starts=None)
        )
        sum(loss.total for loss in losses.values()).backward()
        optimizer.step()
    boxes = rows.rois[None, :, 1:]
    found = Detections(boxes, torch.ones(1, 2), rows.labels[None], rows.valid[None])
    with torch.inference_mode():
        masks = head(features, found).masks[0] > 0.5
        coarse = head.predictor(head.feature_extractor(features, rows.rois))[:, :1]
        blocks = F.interpolate(coarse, (32, 32))[:, 0] > 0
    truth = mask_targets(targets, rows, 32, method="raster").bool()
    ious = [(m & truth).sum((1, 2)) / (m | truth).sum((1, 2)) for m in (masks, blocks)]
    assert (ious[0] > 0.93).all() and (ious[1] < 0.9).all(), ious


def test_half_precision_gives_nearly_the_same_losses_and_masks(make_tiny_model, toy_batch):
    model = make_tiny_model(CONFIG, **SMALL)
    images, targets = toy_batch
    rois = torch.tensor([[0.0, 10, 10, 60, 50], [1, 30, 10, 88, 70]])
    mask, points = model.roi_heads.mask, torch.rand(2, 30, 2)
    with torch.no_grad():
        features = model.backbone(images)
        exact = mask.feature_extractor.at(features, rois, points)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = [level.bfloat16() for level in features]
            rough = mask.feature_extractor.at(half, rois, points)
            losses = model(images, targets, seeds=[1, 2])
            found = model.eval()(images)
    assert rough.dtype == torch.bfloat16
    scale = exact.abs().max().item()
    torch.testing.assert_close(rough.float(), exact, rtol=0, atol=0.02 * scale)
    assert all(value.isfinite() for value in losses.values())
    assert found[0].has_field("mask")


def test_points_are_compared_with_the_object(make_tiny_model, make_target):
    """An object that fills its region, and a head that is sure of it, or of the opposite."""
    head = make_tiny_model(CONFIG, **SMALL).roi_heads.mask
    rows, targets = rows_and_targets(make_target, [[0.0, 12, 12, 50, 44]])
    features = [torch.zeros(2, 16, 24, 24)]
    nn.init.zeros_(head.point_head.fc_logits.weight)
    for bias in (2.0, -2.0):
        nn.init.constant_(head.point_head.fc_logits.bias, bias)
        loss = head.learn(features, rows, targets)["loss_point"]
        assert loss.count == 1
        expected = F.softplus(torch.tensor(-bias))
        torch.testing.assert_close(loss.total, expected)


def test_masks_come_with_the_detections(make_tiny_model, toy_batch):
    model = make_tiny_model(CONFIG, **SMALL, MODEL__ROI_HEADS__SCORE_THRESH=0.0).eval()
    with torch.inference_mode():
        found = model(toy_batch[0])[0]
        nothing = Detections(
            torch.zeros(2, 0, 4),
            torch.zeros(2, 0),
            torch.zeros(2, 0, dtype=torch.int64),
            torch.zeros(2, 0, dtype=torch.bool),
        )
        empty = model.roi_heads.mask(model.backbone(toy_batch[0]), nothing)
    assert found.get_field("mask").shape == (len(found), 1, 32, 32)  # 4 doubled three times
    assert empty.masks.shape == (2, 0, 32, 32)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["MODEL.MASKIOU_ON", True], "neither with MODEL.MASKIOU_ON"),
        (["MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", 7], "must be even"),
    ],
)
def test_settings_that_do_not_fit_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        get_cfg(CONFIG, keys)
