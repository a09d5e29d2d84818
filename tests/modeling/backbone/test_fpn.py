"""The feature pyramid against torchvision's, at sizes that divide and sizes that do not."""

from collections import OrderedDict
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from maskrcnn_lib.modeling.backbone.fpn import FPN, LastLevelMaxPool
from maskrcnn_lib.modeling.make_layers import group_norm

CHANNELS = (8, 16, 24)


@pytest.mark.parametrize("sizes", [((16, 24), (8, 12), (4, 6)), ((19, 13), (10, 7), (5, 4))])
def test_maps_equal_torchvisions(sizes):
    ops = pytest.importorskip("torchvision.ops")
    torch.manual_seed(0)
    pool = ops.feature_pyramid_network.LastLevelMaxPool()
    theirs = ops.FeaturePyramidNetwork(list(CHANNELS), 32, extra_blocks=pool)
    ours = FPN(CHANNELS, 32, top_block=LastLevelMaxPool())
    state = {}
    for name, value in theirs.state_dict().items():
        part, level, _, kind = name.split(".")
        state[f"fpn_{part.removesuffix('_blocks')}{int(level) + 1}.{kind}"] = value
    ours.load_state_dict(state)
    maps = [torch.randn(2, c, h, w) for c, (h, w) in zip(CHANNELS, sizes, strict=True)]
    expected = theirs(OrderedDict((str(i), m) for i, m in enumerate(maps)))
    for mine, reference in zip(ours(maps), expected.values(), strict=True):
        torch.testing.assert_close(mine, reference)


def test_coarse_maps_reach_finer_ones_doubled():
    fpn = FPN((4, 4), 4)
    for name in ("fpn_inner1", "fpn_inner2", "fpn_layer1", "fpn_layer2"):
        conv = getattr(fpn, name)
        torch.nn.init.dirac_(conv.weight)
    fine, coarse = torch.randn(1, 4, 6, 8), torch.randn(1, 4, 3, 4)
    expected = fine + F.interpolate(coarse, scale_factor=2, mode="nearest")
    torch.testing.assert_close(fpn([fine, coarse])[0], expected)


def test_norm_and_relu_follow_each_convolution_by_index():
    fpn = FPN((8,), 32, norm=partial(group_norm, num_groups=4), relu=True)
    assert set(fpn.state_dict()) == {
        f"fpn_{part}1.{suffix}"
        for part in ("inner", "layer")
        for suffix in ("0.weight", "1.weight", "1.bias")
    }
    assert fpn([torch.randn(1, 8, 5, 5)])[0].min() >= 0


def test_biases_start_at_zero():
    fpn = FPN(CHANNELS, 32)
    assert all((p == 0).all() for name, p in fpn.named_parameters() if name.endswith("bias"))
