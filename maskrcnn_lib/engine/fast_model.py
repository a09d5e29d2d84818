"""A trained model as it predicts fastest, with the same results up to rounding."""

import torch
from torch import nn

from maskrcnn_lib.engine.cuda_graphs import GraphedDetection
from maskrcnn_lib.layers.packed import pack_layers
from maskrcnn_lib.layers.packed_gpu import pack_layers_for_gpu
from maskrcnn_lib.modeling.fuse import fuse_frozen_norms


def make_fast(
    model: nn.Module, device: torch.device, dtype: torch.dtype, *, pack: bool = True
) -> nn.Module:
    """Makes a trained model one that only predicts, in place and on ``device``; returns it.

    Norms disappear into convolutions, layers are packed for this kind of device, and on a GPU
    batches of a size that comes again go through a CUDA graph.

    Args:
        dtype: of the network's arithmetic.
        pack: False leaves torch's own layers, and leaves out graphs, for what traces the model.
    """
    model = fuse_frozen_norms(model.eval()).to(device, memory_format=torch.channels_last)
    if pack and device.type == "cpu":
        pack_layers(model, dtype)
    if pack and device.type == "cuda":
        pack_layers_for_gpu(model, dtype)
        model.detect = GraphedDetection(model.detect)
    return model
