"""Maps and regions on which RoIAlign is tested."""

import pytest
import torch
from torch import Tensor

from maskrcnn_lib.layers._library import ops_available

needs_ops = pytest.mark.skipif(not ops_available(), reason="the compiled operators are not built")
LAYOUTS = (torch.contiguous_format, torch.channels_last)
SCALE = 0.25


def make_map(shape=(2, 19, 21, 34), dtype=torch.float64, layout=torch.contiguous_format) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return features.contiguous(memory_format=layout)


def make_rois(count=40, images=2, dtype=torch.float64) -> Tensor:
    """Boxes of 1 to 150 pixels in images of 84 x 136, some of them partly or wholly outside."""
    generator = torch.Generator().manual_seed(1)
    centre = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 160 - 10
    size = torch.exp(torch.rand(count, 2, generator=generator, dtype=torch.float64) * 5)
    image = torch.arange(count) % images
    rois = torch.cat([image[:, None], centre - size / 2, centre + size / 2], dim=1)
    rois[0, 1:] = torch.tensor([0, 0, 136, 84])
    rois[1, 1:] = torch.tensor([50, 60, 50, 60])
    rois[2, 1:] = torch.tensor([500, 500, 600, 600])
    return rois.to(dtype)


def with_gradient(function, features: Tensor, *args) -> tuple[Tensor, Tensor]:
    """Result and gradient of the features for a fixed gradient of the result."""
    features = features.detach().clone().requires_grad_()
    result = function(features, *args)
    generator = torch.Generator().manual_seed(2)
    gradient = torch.randn(result.shape, generator=generator, dtype=torch.float64)
    result.backward(gradient.to(result.dtype))
    return result.detach(), features.grad


# float32 sums of at most some thousand terms of size 1 in another order; the sum of a pixel's
# gradient has more and larger terms than that of a bin.
TOLERANCE = {torch.float32: (2e-5, 2e-4), torch.float64: (1e-12, 1e-11)}
