"""Instance segmentation with Mask R-CNN, in the style of maskrcnn-benchmark, on current PyTorch.

The names that most users need are here. They are loaded on first use, so that
``import maskrcnn_lib`` costs little more than ``import torch``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "BoxList": "maskrcnn_lib.structures.bounding_box",
    "COCODemo": "maskrcnn_lib.engine.predictor",
    "SegmentationMask": "maskrcnn_lib.structures.segmentation_mask",
    "build_detection_model": "maskrcnn_lib.modeling.detector",
    "cfg": "maskrcnn_lib.config",
    "get_cfg": "maskrcnn_lib.config",
}

__all__ = [
    "BoxList",
    "COCODemo",
    "SegmentationMask",
    "__version__",
    "build_detection_model",
    "cfg",
    "get_cfg",
]

if TYPE_CHECKING:
    from maskrcnn_lib.config import cfg, get_cfg
    from maskrcnn_lib.engine.predictor import COCODemo
    from maskrcnn_lib.modeling.detector import build_detection_model
    from maskrcnn_lib.structures.bounding_box import BoxList
    from maskrcnn_lib.structures.segmentation_mask import SegmentationMask


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
