"""Generalised IoU against torchvision's and by hand."""

import pytest
import torch

from maskrcnn_lib.layers import giou_loss


def test_boxes_far_apart_have_the_loss_that_the_hull_says():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 2, 2]])
    goals = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [4, 0, 6, 2]])
    # equal; IoU 1/3 in a full hull; IoU 0 and a third of the hull empty
    torch.testing.assert_close(giou_loss(boxes, goals), torch.tensor([0.0, 2 / 3, 4 / 3]))


def test_values_and_gradients_are_torchvisions():
    peer = pytest.importorskip("torchvision.ops").generalized_box_iou_loss
    generator = torch.Generator().manual_seed(0)
    corner = 50 * torch.rand(2, 200, 2, generator=generator, dtype=torch.float64)
    extent = 40 * torch.rand(2, 200, 2, generator=generator, dtype=torch.float64)
    boxes, goals = torch.cat([corner, corner + extent], dim=2)
    gradients = []
    for loss in (giou_loss, peer):
        leaf = boxes.clone().requires_grad_()
        values = loss(leaf, goals)
        values.sum().backward()
        gradients.append((values.detach(), leaf.grad))
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
