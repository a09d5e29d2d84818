"""A published ImageNet ResNet-50, loaded into our body with its own classifier, knows its classes.

Wrong channel order, stride placement, norm or a permuted kernel would each lose the class.
"""

import numpy as np
import pytest
import torch
from torch.nn.functional import linear

from maskrcnn_lib.checkpoint import load_weights
from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.modeling.backbone import build_backbone
from maskrcnn_lib.utils.safe_pickle import load_pickle

EGYPTIAN_CAT, ESPRESSO = 285, 967
SHORT_SIDE, CROP = 256, 224


def _network_input(path, mean: list[float]) -> torch.Tensor:
    """(1, 3, 224, 224): the middle of the image, BGR from 0 to 255, minus the mean."""
    from PIL import Image

    image = Image.open(path).convert("RGB")
    scale = SHORT_SIDE / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
    left, top = ((side - CROP) // 2 for side in image.size)
    pixels = np.asarray(image.crop((left, top, left + CROP, top + CROP)), np.float32)
    return torch.from_numpy(pixels[..., ::-1] - np.float32(mean)).permute(2, 0, 1)[None]


@pytest.mark.data
@pytest.mark.parametrize(
    ("photo", "label", "probability"),
    [("chelsea.png", EGYPTIAN_CAT, 0.78), ("coffee.png", ESPRESSO, 0.99)],
)
def test_imagenet_body_classifies_photos(test_data, photo, label, probability):
    cfg = get_cfg("e2e_mask_rcnn_R_50_FPN_1x")
    body = build_backbone(cfg).body.eval()
    weights = test_data / "weights" / "R-50.pkl"
    assert load_weights(body, weights).missing == []
    classifier = {
        name: torch.from_numpy(load_pickle(weights)["blobs"][f"fc1000_{name}"]).float()
        for name in ("w", "b")
    }
    x = _network_input(test_data / "photos" / photo, list(cfg.INPUT.PIXEL_MEAN))
    with torch.no_grad():
        features = body(x)[-1].mean((2, 3))
        scores = linear(features, classifier["w"], classifier["b"]).softmax(1)[0]
    assert scores.argmax() == label
    # The published probability has two digits and its own resizing of the photo.
    assert abs(scores[label].item() - probability) < 0.05
