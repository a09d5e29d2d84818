"""One importer per foreign format: recognised by parameter names, converted to ours.

Each module has ``recognises(names)`` and ``convert(tensors)``. The order matters where one format's
names contain another's: the more particular comes first.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

from torch import Tensor

from maskrcnn_lib.checkpoint.importers import (
    caffe2,
    d2go,
    detectron2,
    maskrcnn_benchmark,
    mmdetection,
    torchvision,
)
from maskrcnn_lib.checkpoint.importers.base import ImportedWeights


class Importer(NamedTuple):
    """How one format is recognised and converted."""

    format: str
    recognises: Callable[[Collection[str]], bool]
    convert: Callable[[dict[str, Tensor]], ImportedWeights]


IMPORTERS: tuple[Importer, ...] = (
    Importer(caffe2.FORMAT, caffe2.recognises, caffe2.convert),
    Importer(d2go.FORMAT, d2go.recognises, d2go.convert),
    Importer(detectron2.FORMAT, detectron2.recognises, detectron2.convert),
    Importer(mmdetection.FORMAT, mmdetection.recognises, mmdetection.convert),
    Importer(torchvision.FORMAT, torchvision.recognises, torchvision.convert),
    Importer(
        torchvision.IMAGENET_FORMAT,
        torchvision.recognises_classifier,
        torchvision.convert_classifier,
    ),
    Importer(
        torchvision.MOBILENET_FORMAT,
        torchvision.recognises_mobilenet,
        torchvision.convert_mobilenet,
    ),
    Importer(maskrcnn_benchmark.FORMAT, maskrcnn_benchmark.recognises, maskrcnn_benchmark.convert),
)

__all__ = ["IMPORTERS", "ImportedWeights", "Importer"]
