"""ResNet bodies against torchvision's classifiers: same names, same shapes, same values."""

import pytest
import torch
from torch import nn

from maskrcnn_lib.layers.batch_norm import FrozenBatchNorm2d
from maskrcnn_lib.layers.deform_conv import Deformation
from maskrcnn_lib.modeling.backbone.resnet import RESNET_BLOCKS, Bottleneck, ResNet, ResNetHead
from maskrcnn_lib.modeling.make_layers import group_norm

torchvision = pytest.importorskip("torchvision")

# Of ResNet-18 and 34.
BASIC = {"basic": True, "res2_out_channels": 64}

# torchvision adds this to the variance, our frozen norm has no epsilon.
TORCHVISION_EPS = 1e-5


def randomise_norms(module, seed=0):
    """Gives every frozen norm statistics and affine parameters of a trained network's kind."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if hasattr(norm, "running_var"):
            norm.weight.data.uniform_(0.5, 1.5, generator=generator)
            norm.bias.data.normal_(0.0, 0.1, generator=generator)
            norm.running_mean.normal_(0.0, 0.1, generator=generator)
            norm.running_var.uniform_(0.5, 2.0, generator=generator)


def our_state(torchvision_model):
    """The state dict of torchvision's classifier under our names, without the classifier."""
    state = {}
    for name, value in torchvision_model.state_dict().items():
        if name.startswith("fc."):
            continue
        if name.endswith("running_var"):
            value = value + TORCHVISION_EPS
        state["stem." + name if name.startswith(("conv1", "bn1")) else name] = value
    return state


def torchvision_maps(model, x):
    x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    maps = []
    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        x = layer(x)
        maps.append(x)
    return maps


def torchvision_resnet(name="resnet50"):
    norm = torchvision.ops.FrozenBatchNorm2d
    return torchvision.models.get_model(name, weights=None, norm_layer=norm).eval()


@pytest.mark.parametrize("size", [(64, 96), (101, 75)])
@pytest.mark.parametrize(("depth", "options"), [(50, {}), (18, BASIC)])
def test_maps_equal_torchvisions_at_even_and_odd_sizes(depth, options, size):
    torch.manual_seed(0)
    theirs = torchvision_resnet(f"resnet{depth}")
    randomise_norms(theirs)
    ours = ResNet(RESNET_BLOCKS[depth], (1, 2, 3, 4), stride_in_1x1=False, **options).eval()
    ours.load_state_dict(our_state(theirs))
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        for mine, reference in zip(ours(x), torchvision_maps(theirs, x), strict=True):
            # fp32 sums of up to 4608 products in another order, through 50 layers
            error = (mine - reference).abs().max() / reference.abs().max()
            assert error < 1e-5


@torch.no_grad()
def test_dilated_last_stage_equals_torchvisions():
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50(
        norm_layer=torchvision.ops.FrozenBatchNorm2d,
        replace_stride_with_dilation=[False, False, True],
    ).eval()
    # torchvision begins to dilate after the first block, Detectron and its heirs with it.
    theirs.layer4[0].conv2.dilation = theirs.layer4[0].conv2.padding = (2, 2)
    randomise_norms(theirs)
    ours = ResNet(RESNET_BLOCKS[50], stride_in_1x1=False, last_dilation=2).eval()
    ours.load_state_dict(our_state(theirs))
    x = torch.randn(1, 3, 64, 96)
    (mine,), reference = ours(x), torchvision_maps(theirs, x)[-1]
    assert mine.shape == (1, 2048, 4, 6)
    # as above: fp32 sums in another order, through 50 layers
    assert (mine - reference).abs().max() / reference.abs().max() < 1e-5


@pytest.mark.parametrize(
    ("name", "depth", "options"),
    [
        ("resnet18", 18, BASIC),
        ("resnet34", 34, BASIC),
        ("resnet50", 50, {}),
        ("resnet101", 101, {}),
        ("resnet152", 152, {}),
        ("resnext101_32x8d", 101, {"num_groups": 32, "width_per_group": 8}),
    ],
)
def test_parameters_have_torchvisions_names_and_shapes(name, depth, options):
    with torch.device("meta"):
        theirs = torchvision_resnet(name)
        ours = ResNet(RESNET_BLOCKS[depth], stride_in_1x1=False, **options)
    expected = {key: value.shape for key, value in our_state(theirs).items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == expected
    theirs_convs = dict(theirs.named_modules())
    for key, conv in ours.named_modules():
        if isinstance(conv, nn.Conv2d):
            other = theirs_convs[key.removeprefix("stem.")]
            assert (other.stride, other.groups) == (conv.stride, conv.groups)


@pytest.mark.parametrize(
    "options", [{"num_groups": 2}, {"deformation": Deformation(), "deformable_stages": [3]}]
)
def test_basic_blocks_refuse_what_they_do_not_have(options):
    with pytest.raises(ValueError, match="neither groups nor deformable"):
        ResNet(RESNET_BLOCKS[18], **BASIC, **options)


def test_stride_in_1x1_moves_the_stride_to_the_first_convolution():
    options = {"bottleneck_channels": 4, "stride": 2}
    msra = Bottleneck(8, 16, stride_in_1x1=True, **options)
    facebook = Bottleneck(8, 16, stride_in_1x1=False, **options)
    assert (msra.conv1.stride, msra.conv2.stride) == ((2, 2), (1, 1))
    assert (facebook.conv1.stride, facebook.conv2.stride) == ((1, 1), (2, 2))
    x = torch.randn(1, 8, 9, 7)
    assert msra(x).shape == facebook(x).shape == (1, 16, 5, 4)


def test_head_is_layer4_of_the_body():
    torch.manual_seed(0)
    theirs = torchvision_resnet()
    randomise_norms(theirs)
    head = ResNetHead(stride_in_1x1=False)
    state = our_state(theirs)
    head.load_state_dict({k: v for k, v in state.items() if k.startswith("layer4.")})
    rois = torch.randn(3, 1024, 14, 14)
    with torch.no_grad():
        mine, reference = head(rois), theirs.layer4(rois)
    assert mine.shape == (3, head.out_channels, 7, 7)
    assert (mine - reference).abs().max() < 1e-5 * reference.abs().max()


def test_head_takes_no_rois():
    head = ResNetHead(1, res2_out_channels=16, width_per_group=4)
    assert head(torch.zeros(0, 64, 14, 14)).shape == (0, 128, 7, 7)


def test_dilated_head_keeps_the_resolution():
    head = ResNetHead(2, res2_out_channels=16, width_per_group=4, dilation=2)
    assert head(torch.randn(2, 64, 7, 7)).shape == (2, 128, 7, 7)
    assert head.layer4[0].conv2.dilation == (2, 2)


def small_resnet(**options):
    return ResNet((1, 1, 1, 1), res2_out_channels=16, width_per_group=4, **options)


@pytest.mark.parametrize(
    ("freeze_at", "frozen"),
    [(-1, set()), (0, set()), (1, {"stem"}), (2, {"stem", "layer1"}), (9, None)],
)
def test_freeze_at_stops_gradients_of_the_first_parts(freeze_at, frozen):
    body = small_resnet(freeze_at=freeze_at)
    found = {name.split(".")[0] for name, p in body.named_parameters() if not p.requires_grad}
    assert found == ({"stem", *body.stages} if frozen is None else frozen)


def test_return_stages_choose_the_maps():
    x = torch.randn(1, 3, 64, 64)
    assert [m.shape for m in small_resnet()(x)] == [(1, 128, 2, 2)]
    assert [m.shape[1] for m in small_resnet(return_stages=(2, 4))(x)] == [32, 128]
    assert small_resnet(return_stages=(2, 4)).out_channels == [32, 128]
    with pytest.raises(ValueError, match="return_stages"):
        small_resnet(return_stages=(5,))


def test_convolutions_start_as_caffe2s_xavier():
    conv = ResNet((1,)).stem.conv1
    bound = (3 / (3 * 7 * 7)) ** 0.5
    assert conv.weight.abs().max() <= bound
    # standard deviation of a uniform distribution; 9408 samples stray by less than 2 %
    assert conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_any_norm_can_stand_in_for_the_frozen_one():
    body = small_resnet(norm=lambda channels: group_norm(channels, num_groups=2))
    assert not any(isinstance(m, FrozenBatchNorm2d) for m in body.modules())
    body(torch.randn(1, 3, 64, 64))[0].sum().backward()
    assert all(p.grad is not None for p in body.parameters())
