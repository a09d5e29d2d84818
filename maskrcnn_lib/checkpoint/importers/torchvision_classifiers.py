"""torchvision's ImageNet classifiers, ResNets and MobileNetV2, of which a model takes the body."""

from collections.abc import Collection

from torch import Tensor

from maskrcnn_lib.checkpoint.importers.base import ImportedWeights, rename
from maskrcnn_lib.checkpoint.importers.name_pairs import import_rules, resnet_pairs
from maskrcnn_lib.checkpoint.importers.torchvision import EPS

_RESNET = ("conv1.weight", "layer1.0.conv1.weight")
_MOBILENET = ("features.1.conv.0.0.weight", "features.18.0.weight")


def recognises(names: Collection[str]) -> bool:
    """Tells whether these are the names of such a classifier."""
    return any(all(sign in names for sign in signs) for signs in (_RESNET, _MOBILENET))


def convert(tensors: dict[str, Tensor]) -> ImportedWeights:
    """Takes the body; of MobileNetV2 it ends with the last block."""
    if _RESNET[0] in tensors:
        format_ = "torchvision_imagenet"
        renamed = rename(tensors, import_rules(resnet_pairs("", "")), (r"fc\.(?:weight|bias)",))
    else:
        format_ = "torchvision_mobilenet"
        rule = (r"(features\.(?:\d|1[0-7])\..*)", r"\1")
        renamed = rename(tensors, [rule], (r"features\.18\..*", r"classifier\..*"))
    return ImportedWeights(
        format=format_,
        tensors=renamed.tensors,
        unmapped=renamed.unmapped,
        ignored=renamed.ignored,
        norm_eps=EPS,
        body_only=True,
    )
