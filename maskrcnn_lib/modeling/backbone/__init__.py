"""Networks that turn an image into feature maps."""

from maskrcnn_lib.modeling.backbone.backbone import Backbone, build_backbone

__all__ = ["Backbone", "build_backbone"]
