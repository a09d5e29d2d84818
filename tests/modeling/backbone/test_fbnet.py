"""FBNet: its tables in maskrcnn-benchmark's form and as MobileNetV2, its blocks layer by layer."""

import json

import pytest
import torch
from torch import nn

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.layers import FrozenBatchNorm2d
from maskrcnn_lib.layers.packed import pack_layers
from maskrcnn_lib.modeling.backbone import build_backbone
from maskrcnn_lib.modeling.backbone.fbnet import (
    build_fbnet_architecture,
    build_fbnet_head,
    build_fbnet_rpn_feature,
)
from maskrcnn_lib.modeling.backbone.fbnet_architectures import (
    FBNET_ARCHITECTURES,
    parse_architecture,
)
from maskrcnn_lib.modeling.backbone.inverted_residual import (
    Block,
    InvertedResidual,
    divisible_width,
)
from maskrcnn_lib.modeling.fuse import fuse_frozen_norms

K3, K5, K7 = "ir_k3", "ir_k5", "ir_k7"
COMMON = {"first": [32, 2], "last": [0, 0.0], "backbone": [0, 1, 2, 3], "bbox": [4]}
MOBILE = [[[1, 16, 1, 1]], [[6, 24, 2, 2]], [[6, 32, 3, 2]], [[6, 64, 4, 2], [6, 96, 3, 1]]]
# As maskrcnn-benchmark writes them: operations of each block, rows [t, c, n, s] of each stage.
DEFINITIONS = {
    "default": {
        "block_op_type": [[K3], [K3] * 2, [K3] * 3, [K3] * 7, [K3] * 4, [K3] * 3, [K3] * 5],
        "block_cfg": COMMON
        | {
            "stages": [
                *MOBILE,
                [[4, 160, 1, 2], [6, 160, 2, 1], [6, 240, 1, 1]],
                [[6, 96, 3, 1]],
                [[4, 160, 1, 1], [6, 160, 3, 1], [3, 80, 1, -2]],
            ],
            "rpn": [5],
            "mask": [6],
        },
    },
    "xirb16d_dsmask": {
        "block_op_type": [[K3], [K3] * 2, [K3] * 3, [K3] * 7, [K3] * 4, [K3] * 5, [K3] * 3],
        "block_cfg": COMMON
        | {
            "first": [16, 2],
            "stages": [
                [[1, 16, 1, 1]],
                [[6, 32, 2, 2]],
                [[6, 48, 3, 2]],
                [[6, 96, 4, 2], [6, 128, 3, 1]],
                [[4, 128, 1, 2], [6, 128, 2, 1], [6, 160, 1, 1]],
                [[4, 128, 1, 2], [6, 128, 2, 1], [6, 128, 1, -2], [3, 64, 1, -2]],
                [[6, 128, 3, 1]],
            ],
            "mask": [5],
            "rpn": [6],
        },
    },
    "mobilenet_v2": {
        "block_op_type": [[K3], [K3] * 2, [K3] * 3, [K3] * 7, [K3] * 4],
        "block_cfg": COMMON | {"stages": [*MOBILE, [[6, 160, 3, 1], [6, 320, 1, 1]]]},
    },
    "cham_v1a": {
        "block_op_type": [[K3], [K7] * 2, [K3] * 5, [K5] * 7 + [K3] * 5, [K3] * 5, [K3] * 3],
        "block_cfg": COMMON
        | {
            "stages": [
                [[1, 24, 1, 1]],
                [[4, 48, 2, 2]],
                [[7, 64, 5, 2]],
                [[12, 56, 7, 2], [8, 88, 5, 1]],
                [[7, 152, 4, 2], [10, 104, 1, 1]],
                [[8, 88, 3, 1]],
            ],
            "rpn": [5],
        },
    },
    "cham_v2": {
        "block_op_type": [[K3], [K5] * 4, [K7] * 6, [K5] * 3 + [K3] * 6, [K3] * 7, [K3]],
        "block_cfg": COMMON
        | {
            "stages": [
                [[1, 24, 1, 1]],
                [[8, 32, 4, 2]],
                [[5, 48, 6, 2]],
                [[9, 56, 3, 2], [6, 56, 6, 1]],
                [[2, 160, 6, 2], [6, 112, 1, 1]],
                [[6, 56, 1, 1]],
            ],
            "rpn": [5],
        },
    },
}
# Channels of the backbone, and of the box and mask heads' results.
CHANNELS = {
    "default": (96, 240, 80),
    "xirb16d_dsmask": (128, 160, 64),
    "mobilenet_v2": (96, 320, None),
    "cham_v1a": (88, 104, None),
    "cham_v2": (56, 112, None),
}


def config(*overrides, arch="default"):
    keys = ["MODEL.BACKBONE.CONV_BODY", "FBNet", "MODEL.FBNET.ARCH", arch]
    return get_cfg(overrides=[*keys, "MODEL.FBNET.WIDTH_DIVISOR", 8, *overrides])


def test_tables_are_those_of_maskrcnn_benchmark():
    parsed = {name: parse_architecture(json.dumps(d)) for name, d in DEFINITIONS.items()}
    assert parsed == FBNET_ARCHITECTURES


@pytest.mark.parametrize("arch", CHANNELS)
def test_shapes_of_body_and_heads(arch):
    cfg = config(arch=arch)
    channels, box, mask = CHANNELS[arch]
    with torch.device("meta"):
        backbone = build_backbone(cfg)
        (features,) = backbone(torch.empty(2, 3, 128, 192))
        head = build_fbnet_head(cfg, channels, "ROI_BOX_HEAD")
        side = 6 if arch == "mobilenet_v2" else 3  # the only box head without a stride
        assert head(torch.empty(5, channels, 6, 6)).shape == (5, box, side, side)
        if mask is not None:
            masks = build_fbnet_head(cfg, channels, "ROI_MASK_HEAD")
            assert masks(torch.empty(5, channels, 6, 6)).shape == (5, mask, 12, 12)
        if arch != "mobilenet_v2":
            assert build_fbnet_rpn_feature(cfg, channels)(features).shape == features.shape
    assert features.shape == (2, channels, 8, 12)
    assert backbone.out_channels == channels


def test_backbone_of_default_is_mobilenetv2():
    """torchvision's network, once its ReLU6 are ReLUs and the first block, which expands by 1, has
    a 1x1 convolution that does nothing."""
    from torchvision.models import mobilenet_v2
    from torchvision.ops import Conv2dNormActivation

    torch.manual_seed(0)
    theirs = mobilenet_v2(weights=None, norm_layer=FrozenBatchNorm2d).features[:14].double().eval()
    for parent in theirs.modules():
        if isinstance(parent, Conv2dNormActivation):
            parent[2] = nn.ReLU()
    for module in theirs.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_()
    keys = ["MODEL.FBNET.DW_CONV_SKIP_BN", False, "MODEL.FBNET.DW_CONV_SKIP_RELU", False]
    body = build_backbone(config(*keys, "MODEL.FBNET.BN_TYPE", "af")).body.double()
    pairs = list(zip(_conv_norms(body), _conv_norms(theirs, skipped=1), strict=True))
    for (conv, norm), (their_conv, their_norm) in pairs:
        if their_conv is None:
            conv.weight.data = torch.eye(32, dtype=torch.float64)[:, :, None, None]
            continue
        assert (conv.weight.shape, conv.stride) == (their_conv.weight.shape, their_conv.stride)
        conv.load_state_dict(their_conv.state_dict())
        norm.load_state_dict(their_norm.state_dict())
    x = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    (features,) = body(x)
    torch.testing.assert_close(features, theirs(x))


def _conv_norms(network, *, skipped=None):
    """Convolutions and the norms behind them; a pair of None is put in at ``skipped``."""
    convs = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in network.modules() if isinstance(m, FrozenBatchNorm2d)]
    pairs = list(zip(convs, norms, strict=True))
    if skipped is not None:
        pairs.insert(skipped, (None, None))
    return pairs


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize(
    "row", [Block(5, 1, 8), Block(3, 2, 6, stride=2), Block(3, 3, 8, upsample=True)]
)
def test_a_block_is_its_layers_one_after_the_other(depthwise, row):
    torch.manual_seed(0)
    options = {"always_expand": True, "depthwise_norm": depthwise, "depthwise_relu": depthwise}
    block = InvertedResidual(8, row, norm=nn.BatchNorm2d, **options).double()
    width = int(8 * row.expansion)
    layers = [nn.Conv2d(8, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    if row.upsample:
        layers.append(nn.UpsamplingNearest2d(scale_factor=2))
    layers.append(
        nn.Conv2d(width, width, row.kernel, row.stride, row.kernel // 2, groups=width, bias=False)
    )
    if depthwise:
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
    layers += [nn.Conv2d(width, row.channels, 1, bias=False), nn.BatchNorm2d(row.channels)]
    plain = nn.Sequential(*layers).double()
    values = [value for value in block.state_dict().values() if value.dim()]
    names = [name for name, value in plain.state_dict().items() if value.dim()]
    plain.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    x = torch.randn(3, 8, 6, 4, dtype=torch.float64)
    for training in (True, False):
        expected = plain.train(training)(x)
        if expected.shape == x.shape:
            expected = expected + x
        torch.testing.assert_close(block.train(training)(x), expected)


def test_keypoint_head_takes_its_own_blocks_or_those_of_the_masks():
    cfg = config(arch="default")
    rows = dict(build_fbnet_head(cfg, 96, "ROI_KEYPOINT_HEAD").named_children())
    assert list(rows) == [f"xif6_{i}" for i in range(5)]
    own = json.loads(json.dumps(DEFINITIONS["default"]))
    own["block_cfg"]["kpts"] = [4]
    cfg = config("MODEL.FBNET.ARCH_DEF", json.dumps(own))
    rows = dict(build_fbnet_head(cfg, 96, "ROI_KEYPOINT_HEAD").named_children())
    assert list(rows) == [f"xif4_{i}" for i in range(4)]


def test_heads_take_some_of_their_blocks_another_stride_and_a_last_convolution():
    keys = ["MODEL.FBNET.DET_HEAD_BLOCKS", [1, 3], "MODEL.FBNET.DET_HEAD_STRIDE", 2]
    head = build_fbnet_head(
        config(*keys, "MODEL.FBNET.DET_HEAD_LAST_SCALE", -0.49), 96, "ROI_BOX_HEAD"
    )
    assert [name for name, _ in head.named_children()] == ["xif4_1", "xif4_3", "last"]
    assert head.xif4_1.dw.conv.stride == (2, 2)
    assert head.out_channels == head.last.conv.out_channels == 120  # 117 of 240, in eights
    assert head(torch.randn(2, 96, 6, 6)).shape == (2, 120, 3, 3)
    rpn = build_fbnet_rpn_feature(config("MODEL.FBNET.RPN_HEAD_BLOCKS", 2), 96)
    assert [name for name, _ in rpn.named_children()] == ["xif5_1", "xif5_2"]


def test_norms_come_from_the_config():
    def kinds(*keys):
        body = build_backbone(config(*keys)).body
        return {type(m) for m in body.modules() if "Norm" in type(m).__name__}

    assert kinds() == {nn.BatchNorm2d}
    assert kinds("MODEL.FBNET.BN_TYPE", "af") == {FrozenBatchNorm2d}
    assert kinds("MODEL.NORM", "sync") == {nn.SyncBatchNorm}
    groups = ["MODEL.GROUP_NORM.NUM_GROUPS", 8, "MODEL.FBNET.BN_TYPE", "gn"]
    assert kinds(*groups) == {nn.GroupNorm}
    keys = ["MODEL.GROUP_NORM.NUM_GROUPS", 8, "MODEL.FBNET.RPN_BN_TYPE", "gn"]
    rpn = build_fbnet_rpn_feature(config(*keys), 96)
    assert isinstance(rpn.xif5_0.pw.bn, nn.GroupNorm)
    with pytest.raises(ValueError, match="BN_TYPE"):
        kinds("MODEL.FBNET.BN_TYPE", "batch")


@torch.no_grad()
def test_fused_and_packed_for_inference_the_map_stays():
    torch.manual_seed(0)
    body = build_backbone(config()).body
    x = torch.randn(2, 3, 64, 96)
    for _ in range(3):
        body(x)  # statistics that are not 0 and 1
    (expected,) = body.eval()(x)
    pack_layers(fuse_frozen_norms(body), torch.float32)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in body.modules())
    torch.testing.assert_close(body(x)[0], expected, rtol=1e-4, atol=1e-4)


def test_nothing_is_frozen():
    cfg = config("MODEL.BACKBONE.FREEZE_CONV_BODY_AT", 2)
    assert all(p.requires_grad for p in build_backbone(cfg).parameters())


def test_widths_are_scaled_and_rounded():
    assert [divisible_width(w, 8) for w in (3, 12, 19.9, 20, 24)] == [8, 16, 16, 24, 24]
    architecture = build_fbnet_architecture(config("MODEL.FBNET.SCALE_FACTOR", 0.6))
    assert architecture.first == (16, 2)  # 19.2 channels are 2.4 eights
    assert [block.channels for block in architecture.blocks("bbox").values()] == [96, 96, 96, 144]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"block_op_type": [["shuffle"]] * 5}, "shuffle"),
        ({"block_op_type": [[K3]] * 2}, "ARCH_DEF"),
        ({"block_cfg": {"first": [32, 2]}}, "stages"),
        ({"block_cfg": COMMON | {"stages": [[[1, 16, 1, -4]]] * 5}}, "stride -4"),
    ],
)
def test_a_definition_that_is_none_is_refused(change, words):
    definition = {
        "block_op_type": [[K3]] * 5,
        "block_cfg": COMMON | {"stages": [[[1, 16, 1, 1]]] * 5},
    }
    parse_architecture(json.dumps(definition))
    with pytest.raises(ValueError, match=words):
        parse_architecture(json.dumps(definition | change))
    with pytest.raises(ValueError, match="ARCH_DEF"):
        parse_architecture("{")


def test_what_an_architecture_has_not_is_refused():
    with pytest.raises(ValueError, match="'rpn'"):
        build_fbnet_rpn_feature(config(arch="mobilenet_v2"), 96)
    with pytest.raises(ValueError, match="cham_v1a"):
        build_fbnet_architecture(config(arch="cham_v1"))
    with pytest.raises(ValueError, match="RPN_HEAD_BLOCKS"):
        build_fbnet_rpn_feature(config("MODEL.FBNET.RPN_HEAD_BLOCKS", 4), 96)
    with pytest.raises(ValueError, match="HEAD_BLOCKS"):
        build_fbnet_head(config("MODEL.FBNET.DET_HEAD_BLOCKS", [4]), 96, "ROI_BOX_HEAD")
