"""Names of maskrcnn-benchmark for layers that torch itself now runs on empty batches."""

from torch.nn import BatchNorm2d, Conv2d, ConvTranspose2d
from torch.nn.functional import interpolate

__all__ = ["BatchNorm2d", "Conv2d", "ConvTranspose2d", "interpolate"]
