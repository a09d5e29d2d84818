"""Where a config's names of network parts are looked up, and where users add their own.

Every entry is a builder or class called with the config (and the number of input channels, where
the part has an input): ``BACKBONES`` as ``(cfg)``, all others as ``(cfg, in_channels)``;
``RPN_HEADS`` as ``(cfg, in_channels, num_anchors)``, and ``META_ARCHITECTURES``, the whole
detectors, as ``(cfg)``.
"""

from maskrcnn_lib.utils.registry import Registry

META_ARCHITECTURES = Registry("meta-architecture")
BACKBONES = Registry("backbone")
RPN_HEADS = Registry("RPN head")
ROI_BOX_FEATURE_EXTRACTORS = Registry("box feature extractor")
ROI_BOX_PREDICTOR = Registry("box predictor")
ROI_KEYPOINT_FEATURE_EXTRACTORS = Registry("keypoint feature extractor")
ROI_KEYPOINT_PREDICTOR = Registry("keypoint predictor")
ROI_MASK_FEATURE_EXTRACTORS = Registry("mask feature extractor")
ROI_MASK_PREDICTOR = Registry("mask predictor")
