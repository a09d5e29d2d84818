"""ImageNet classifiers of other libraries as bodies: the same weights, the same features."""

import pytest
import torch

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.backbone import build_backbone


def _randomised(classifier):
    """The classifier with norms that do something, in evaluation mode."""
    for name, buffer in classifier.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            buffer.uniform_(-0.1, 0.1)
    return classifier.eval()


def _torchvision():
    from torchvision.models import resnet50

    return resnet50(weights=None)


def _timm():
    timm = pytest.importorskip("timm")
    return timm.create_model("resnet50", pretrained=False)


@pytest.mark.parametrize("make", [_torchvision, _timm])
def test_body_of_a_classifier_gives_its_features(make):
    torch.manual_seed(0)
    theirs = _randomised(make())
    body = build_backbone(get_cfg("torchvision/maskrcnn_resnet50_fpn")).body.eval()
    report = load_weights(body, theirs.state_dict())
    assert (report.format, report.missing, report.unexpected) == ("torchvision_imagenet", [], [])
    assert {"fc.weight", "fc.bias"} <= set(report.ignored)
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        ours = body(x)
        for layer in (theirs.conv1, theirs.bn1, torch.relu, theirs.maxpool):
            x = layer(x)
        for stage, found in zip(range(1, 5), ours, strict=True):
            x = getattr(theirs, f"layer{stage}")(x)
            # Frozen norms multiply and add where theirs subtract first: 1e-6 a layer.
            torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-4 * x.abs().max().item())
