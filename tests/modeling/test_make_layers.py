"""Initial distributions and the arguments of the layer makers."""

import pytest
import torch
from torch import nn

from maskrcnn_lib.modeling.make_layers import (
    group_norm,
    init_kaiming_normal,
    init_kaiming_uniform,
    init_normal,
    make_conv,
    make_fc,
)


@pytest.mark.parametrize(
    ("init", "layer", "std"),
    [
        (init_kaiming_uniform, nn.Conv2d(64, 128, 3), (1 / (64 * 9)) ** 0.5),
        (init_kaiming_uniform, nn.Linear(256, 512), (1 / 256) ** 0.5),
        (init_kaiming_normal, nn.Conv2d(64, 128, 3), (2 / (128 * 9)) ** 0.5),
        (init_kaiming_normal, nn.Conv2d(512, 512, 5, groups=512), (2 / 25) ** 0.5),
        (lambda layer: init_normal(layer, 0.01), nn.Conv2d(64, 128, 3), 0.01),
    ],
)
def test_standard_deviation_and_zero_bias(init, layer, std):
    torch.manual_seed(0)
    init(layer)
    # more than 10 000 samples: the deviation of their deviation is below 1 %
    assert layer.weight.std().item() == pytest.approx(std, rel=0.03)
    assert (layer.bias == 0).all()


def test_group_norm_by_count_or_by_width():
    assert group_norm(64).num_groups == 32
    assert group_norm(64, num_groups=-1, dim_per_group=16).num_groups == 4
    with pytest.raises(ValueError, match="exactly one"):
        group_norm(64, num_groups=-1)
    with pytest.raises(ValueError, match="exactly one"):
        group_norm(64, num_groups=32, dim_per_group=16)
    with pytest.raises(ValueError, match="48 channels"):
        group_norm(48)


def test_conv_keeps_the_size_and_drops_the_bias_before_a_norm():
    x = torch.randn(1, 8, 9, 7)
    plain = make_conv(8, 16, dilation=2)
    assert isinstance(plain, nn.Conv2d)
    assert plain.bias is not None
    assert plain(x).shape == (1, 16, 9, 7)
    normed = make_conv(8, 32, kernel_size=1, norm=group_norm, relu=True)
    assert [type(m) for m in normed] == [nn.Conv2d, nn.GroupNorm, nn.ReLU]
    assert normed[0].bias is None


def test_fc_with_and_without_norm():
    assert make_fc(8, 16).bias is not None
    normed = make_fc(8, 32, norm=group_norm)
    assert normed[0].bias is None
    assert normed(torch.randn(3, 8)).shape == (3, 32)
