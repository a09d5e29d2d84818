"""YOLOF's neck by hand: how far it sees, what its blocks add, what it was given to begin with."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from maskrcnn_lib.layers.batch_norm import FrozenBatchNorm2d
from maskrcnn_lib.modeling.backbone.dilated_encoder import DilatedBlock, DilatedEncoder
from maskrcnn_lib.modeling.fuse import fuse_frozen_norms

DILATIONS = (2, 4, 6, 8)


def make_encoder(norm=nn.BatchNorm2d):
    torch.manual_seed(0)
    return DilatedEncoder(12, 8, width=4, dilations=DILATIONS, norm=norm)


def test_one_map_of_the_same_size_and_fewer_channels_comes_out():
    encoder = make_encoder()
    (out,) = encoder([torch.randn(2, 6, 10, 14), torch.randn(2, 12, 5, 7)])
    assert out.shape == (2, 8, 5, 7)
    assert encoder.out_channels == 8
    assert [block.conv2[0].dilation for block in encoder.blocks] == [(d, d) for d in DILATIONS]
    # As mmdetection's: no bias where a module holds convolution and norm, one where they are apart.
    assert encoder.blocks[0].conv1[0].bias is None
    assert encoder.lateral_conv.bias is not None and encoder.fpn_conv.bias is not None


def test_a_block_adds_what_three_convolutions_with_relu_make():
    """Scalars: x + relu(5 relu(w * relu(2 x) + ...)), with a 3x3 kernel that reaches 3 away."""
    block = DilatedBlock(1, 1, dilation=3, norm=FrozenBatchNorm2d)
    kernel = torch.zeros(3, 3)
    kernel[0, 0], kernel[1, 1], kernel[1, 2] = 1.0, -1.0, 10.0
    with torch.no_grad():
        block.conv1[0].weight.fill_(2.0)
        block.conv2[0].weight.copy_(kernel.view(1, 1, 3, 3))
        block.conv3[0].weight.fill_(5.0)
    x = torch.zeros(1, 1, 9, 9)
    x[0, 0, 4, 4], x[0, 0, 0, 0] = 1.0, -7.0
    expected = x.clone()  # what is negative inside becomes 0, but comes out by the shortcut
    expected[0, 0, 7, 7] += 5 * 1 * 2.0
    expected[0, 0, 4, 1] += 5 * 10 * 2.0
    torch.testing.assert_close(block(x), expected)


def test_blocks_reach_as_far_as_their_dilations_together():
    encoder = make_encoder(FrozenBatchNorm2d)
    with torch.no_grad():
        for name, value in encoder.named_parameters():
            value.fill_(0.0 if name.endswith("bias") else 1.0)
    x = torch.zeros(1, 12, 51, 51)
    x[0, :, 25, 25] = 1.0
    (out,) = encoder([x])
    reached = out[0, 0, 25].nonzero().flatten()
    # 1 by the 3x3 convolution before the blocks.
    assert (reached.min().item(), reached.max().item()) == (25 - 21, 25 + 21)


def test_nothing_but_shortcuts_is_heard_at_the_start():
    encoder = make_encoder(FrozenBatchNorm2d)
    features = [torch.randn(1, 12, 6, 6)]
    (out,) = encoder(features)
    plain = F.conv2d(features[0], encoder.lateral_conv.weight)
    plain = F.conv2d(plain, encoder.fpn_conv.weight, padding=1)
    assert (out - plain).abs().max() < 0.01 * plain.abs().max()
    stds = [block.conv2[0].weight.std().item() for block in encoder.blocks]
    assert stds == pytest.approx([0.01] * 4, rel=0.2)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, FrozenBatchNorm2d, partial(nn.GroupNorm, 2)])
def test_folding_its_norms_changes_nothing(norm):
    encoder = make_encoder(norm).eval()
    torch.manual_seed(1)
    for name, value in encoder.state_dict().items():
        if "running_" in name or "norm" in name:
            value.copy_(torch.rand(value.shape) + 0.5)
    features = [torch.randn(1, 12, 9, 9)]
    with torch.no_grad():
        (expected,) = encoder(features)
        (folded,) = fuse_frozen_norms(encoder)(features)
    torch.testing.assert_close(folded, expected, atol=1e-5, rtol=1e-5)
    folds = not isinstance(norm, partial)
    assert isinstance(encoder.lateral_norm, nn.Identity) == folds
    assert isinstance(encoder.blocks[0].conv2[1], nn.Identity) == folds
