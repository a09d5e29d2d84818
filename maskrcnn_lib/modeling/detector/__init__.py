"""The whole detector."""

from maskrcnn_lib.modeling.detector.detectors import build_detection_model

__all__ = ["build_detection_model"]
