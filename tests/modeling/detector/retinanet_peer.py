"""torchvision's RetinaNet with random weights, and ours with the same."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.detector import build_detection_model

NO_OBJECT = -40.0  # logit of torchvision's label 0, which ours does not have


def smooth_images(
    count: int, height: int, width: int, generator: torch.Generator | None = None
) -> Tensor:
    """Random images whose structure is coarse enough to reach the deepest feature maps."""
    coarse = torch.randn(count, 3, height // 24, width // 24, generator=generator)
    fine = torch.randn(count, 3, height, width, generator=generator)
    return 0.3 * fine + F.interpolate(coarse, (height, width), mode="bilinear")


@torch.no_grad()
def make_peer(name: str, num_classes: int, *, frozen: bool) -> nn.Module:
    """torchvision's model of that name with random weights, and norms with random statistics.

    Args:
        name: of torchvision's builder.
        num_classes: with label 0, whose logits say that there is no such object.
        frozen: norms of the body as constants, as with pretrained weights.
    """
    from torchvision.models import detection
    from torchvision.ops import FrozenBatchNorm2d

    torch.manual_seed(0)
    peer = getattr(detection, name)(
        weights=None, weights_backbone=None, num_classes=num_classes
    ).eval()
    for module in peer.backbone.body.modules():
        for child_name, child in list(module.named_children()):
            if frozen and isinstance(child, nn.BatchNorm2d):
                setattr(module, child_name, FrozenBatchNorm2d(child.num_features))
    for key, value in peer.state_dict().items():
        if ".bn" in key or "downsample.1" in key or ".conv.0.1." in key:
            _randomise(key, value)
    features = peer.backbone(smooth_images(2, 224, 224))["0"]
    head = peer.head
    _spread(head.classification_head.cls_logits, head.classification_head.conv(features), 1.5, -3)
    _spread(head.regression_head.bbox_reg, head.regression_head.conv(features), 0.3, 0)
    for value, number in (("weight", 0.0), ("bias", NO_OBJECT)):
        rows = getattr(head.classification_head.cls_logits, value)
        rows.view(9, num_classes, *rows.shape[1:])[:, 0] = number
    return peer


def _randomise(key: str, value: Tensor) -> None:
    spread = torch.rand_like(value.float())
    if key.endswith("running_var"):
        value.copy_(0.5 + spread)
    elif key.endswith("weight"):
        last = key.endswith("bn3.weight")  # keeps the sum over the blocks within bounds
        value.copy_((0.2 if last else 0.8) + 0.2 * spread)
    elif key.endswith(("running_mean", "bias")):
        value.copy_(0.4 * (spread - 0.5))


def _spread(layer: nn.Conv2d, x: Tensor, spread: float, mean: float) -> None:
    """Rescales a layer so that its outputs over x have that standard deviation and mean."""
    outputs = layer(x)
    factor = spread / outputs.std()
    layer.weight.mul_(factor)
    layer.bias.copy_(factor * (layer.bias - outputs.mean()) + mean)


def make_ours(peer: nn.Module, name: str, num_classes: int, **overrides: object) -> nn.Module:
    """Our model with the peer's weights; overrides are keys with ``__`` for dots."""
    keys = {"MODEL.RETINANET.NUM_CLASSES": num_classes}
    keys |= {key.replace("__", "."): value for key, value in overrides.items()}
    cfg = get_cfg(f"torchvision/{name}", [item for pair in keys.items() for item in pair])
    model = build_detection_model(cfg).to(next(peer.parameters()).dtype)
    load_weights(model, peer.state_dict(), strict=True)
    return model
