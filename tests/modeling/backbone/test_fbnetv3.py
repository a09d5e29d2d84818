"""FBNetV3-A: every layer as in D2Go's published models, and what the blocks compute."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from maskrcnn_lib.modeling.backbone.fbnetv3 import (
    ARCHITECTURES,
    BlockStack,
    FBNetV3Body,
    get_architecture,
)
from maskrcnn_lib.modeling.backbone.inverted_residual import Block, InvertedResidual
from maskrcnn_lib.modeling.make_layers import group_norm

# Layers of the published models that are not blocks of ours: predictors.
PREDICTORS = ("rpn_regressor", "predictor")

PUBLISHED = {
    "faster_rcnn_fbnetv3a_C4": ("FBNetV3-A-C4", None),
    "mask_rcnn_fbnetv3a": ("FBNetV3-A-C4", "mask_head"),
    "keypoint_rcnn_fbnetv3a_dsmask": ("FBNetV3-A-dsmask-C4", "keypoint_head"),
}


def published_parts(architecture, roi_head):
    """Our stacks by the prefix of their parameters in the published file."""
    rows = ARCHITECTURES[architecture]
    body = FBNetV3Body(rows)
    channels = body.out_channels
    parts = {
        "backbone.body.": body,
        "proposal_generator.rpn_head.rpn_feature.0.": BlockStack(channels, rows.rpn),
        "roi_heads.box_head.roi_box_conv.0.": BlockStack(channels, rows.box),
    }
    if roi_head is not None:
        parts[f"roi_heads.{roi_head}.feature_extractor.0."] = BlockStack(channels, rows.mask)
    return parts


@pytest.mark.data
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_layer_is_as_published(test_data, name):
    layers = json.loads((test_data / "weights" / f"{name}_float.layers.json").read_text())
    weights = torch.load(test_data / "weights" / f"{name}_float.pth", weights_only=True)
    seen = set()
    for prefix, stack in published_parts(*PUBLISHED[name]).items():
        own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        stack.load_state_dict(own)
        for layer, conv in stack.named_modules():
            if isinstance(conv, nn.Conv2d):
                assert layers[prefix + layer] == {
                    "stride": list(conv.stride),
                    "padding": list(conv.padding),
                    "dilation": list(conv.dilation),
                    "groups": conv.groups,
                }
                seen.add(prefix + layer)
    missed = set(layers) - seen
    assert all(any(part in layer for part in PREDICTORS) for layer in missed)


def test_shapes_of_body_and_heads():
    rows = get_architecture("FBNetV3-A-C4")
    body = FBNetV3Body(rows)
    rpn, box, mask = (BlockStack(112, part) for part in (rows.rpn, rows.box, rows.mask))
    assert [m.shape for m in body(torch.randn(1, 3, 70, 64))] == [(1, 112, 5, 4)]
    assert rpn(torch.randn(1, 112, 5, 4)).shape == (1, 112, 5, 4)
    assert box(torch.randn(2, 112, 6, 6)).shape == (2, 160, 3, 3)
    assert mask(torch.randn(2, 112, 14, 14)).shape == (2, 64, 28, 28)
    assert mask(torch.randn(0, 112, 14, 14)).shape == (0, 64, 28, 28)


def test_only_the_expansion_has_a_relu_and_equal_shapes_are_added():
    torch.manual_seed(0)
    block = InvertedResidual(4, Block(3, 2, 4))
    x = torch.randn(2, 4, 7, 5)
    wide = F.relu(F.conv2d(x, block.pw.conv.weight, block.pw.conv.bias))
    filtered = F.conv2d(wide, block.dw.conv.weight, block.dw.conv.bias, padding=1, groups=8)
    expected = x + F.conv2d(filtered, block.pwl.conv.weight, block.pwl.conv.bias)
    torch.testing.assert_close(block(x), expected)


def test_upsampling_comes_before_the_depthwise_convolution_and_drops_the_shortcut():
    torch.manual_seed(0)
    block = InvertedResidual(4, Block(5, 1, 4, upsample=True))
    x = torch.randn(1, 4, 3, 2)
    doubled = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    expected = block.pwl(block.dw(doubled))
    torch.testing.assert_close(block(x), expected)
    assert block.pw is None


def test_a_trained_norm_stands_beside_a_convolution_without_bias():
    stack = BlockStack(
        4, (Block(3, 2, 8),), stem_channels=4, norm=lambda c: group_norm(c, num_groups=2)
    )
    assert set(stack.state_dict()) == {
        f"fbnetv2_0_{block}.{name}"
        for block, part in ((0, ""), (1, "pw."), (1, "dw."), (1, "pwl."))
        for name in (f"{part}conv.weight", f"{part}bn.weight", f"{part}bn.bias")
    }
    assert stack(torch.randn(1, 4, 8, 8)).shape == (1, stack.out_channels, 4, 4)


def test_unknown_architecture_names_the_known_ones():
    with pytest.raises(ValueError, match="FBNetV3-A-C4"):
        get_architecture("FBNetV3-B-C4")


def test_signal_keeps_its_scale_from_scratch_without_norms():
    torch.manual_seed(0)
    rows = get_architecture("FBNetV3-A-C4")
    body = FBNetV3Body(rows)
    with torch.no_grad():
        (out,) = body(torch.randn(2, 3, 96, 96))
        parts = [BlockStack(112, rows.box), BlockStack(112, rows.mask)]
        outs = [out, *(part(torch.randn(4, 112, 14, 14)) for part in parts)]
    # 18 blocks whose variance grew by 4 each would end beyond 1000
    assert all(0.2 < float(values.std()) < 10 for values in outs)
