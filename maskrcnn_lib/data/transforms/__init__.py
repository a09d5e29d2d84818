"""One definition of resizing and normalising, for demo, evaluation and training."""

from maskrcnn_lib.data.transforms.image_transform import ImageTransform, build_transform
from maskrcnn_lib.data.transforms.resize import resized_size

__all__ = ["ImageTransform", "build_transform", "resized_size"]
