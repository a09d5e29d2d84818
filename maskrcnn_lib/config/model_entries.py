"""The published weights that the library knows by name: where each file lies and how to tell it.

An entry that a config of this library describes entirely is named like that config.
"""

from maskrcnn_lib.config.zoo.d2go import D2GO
from maskrcnn_lib.config.zoo.detectron import BENCHMARK_CAFFE2, DETECTRON, IMAGENET
from maskrcnn_lib.config.zoo.detectron2 import DETECTRON2
from maskrcnn_lib.config.zoo.entry import ModelEntry
from maskrcnn_lib.config.zoo.maskrcnn_benchmark import BENCHMARK
from maskrcnn_lib.config.zoo.mmdetection import MMDETECTION
from maskrcnn_lib.config.zoo.packaged import PACKAGED
from maskrcnn_lib.config.zoo.torchvision import TORCHVISION, TORCHVISION_IMAGENET

__all__ = ["MODEL_ENTRIES", "ModelEntry"]

MODEL_ENTRIES: dict[str, ModelEntry] = {
    entry.name: entry
    for entry in (
        *IMAGENET,
        *TORCHVISION_IMAGENET,
        *BENCHMARK_CAFFE2,
        *DETECTRON,
        *BENCHMARK,
        *TORCHVISION,
        *D2GO,
        *DETECTRON2,
        *MMDETECTION,
        *PACKAGED,
    )
}
