"""One importer per foreign format: recognised by parameter names, converted to ours.

Each module has ``recognises(names)`` and ``convert(tensors)``. The order matters where one format's
names contain another's: the more particular comes first.
"""

from maskrcnn_lib.checkpoint.importers import (
    caffe2,
    d2go,
    detectron2,
    maskrcnn_benchmark,
    mmdetection,
    torchvision,
    torchvision_classifiers,
)
from maskrcnn_lib.checkpoint.importers.base import ImportedWeights

__all__ = ["IMPORTERS", "ImportedWeights"]

IMPORTERS = (
    caffe2,
    d2go,
    detectron2,
    mmdetection,
    torchvision,
    torchvision_classifiers,
    maskrcnn_benchmark,
)
