"""What the tests of timm's and of torchvision's bodies share."""

import torch
from torch import nn


def randomised(model):
    """The model with batch norms that do something."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.0)
    return model.eval()


def assert_maps_agree(maps, expected, strides, channels):
    """Maps of 96 x 160 images are those of the library, whose channels may come last."""
    for found, theirs, stride, count in zip(maps, expected, strides, channels, strict=True):
        if theirs.shape[1] != count:
            theirs = theirs.permute(0, 3, 1, 2)
        assert found.shape == (2, count, 96 // stride, 160 // stride)
        # A frozen norm multiplies and adds where the other subtracts first.
        torch.testing.assert_close(found, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())
