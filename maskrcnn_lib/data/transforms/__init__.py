"""From an image and its objects to what the network takes; one resize for all purposes."""

from maskrcnn_lib.data.transforms.color import ColorJitter
from maskrcnn_lib.data.transforms.copy_paste import CopyPaste
from maskrcnn_lib.data.transforms.crop import RandomCrop, crop_sample
from maskrcnn_lib.data.transforms.flip import RandomFlip
from maskrcnn_lib.data.transforms.image_transform import ImageTransform, build_transform
from maskrcnn_lib.data.transforms.joint_transform import JointTransform, build_transforms
from maskrcnn_lib.data.transforms.keypoints import OffsetKeypoints
from maskrcnn_lib.data.transforms.resize import resized_size
from maskrcnn_lib.data.transforms.shift import RandomShift
from maskrcnn_lib.data.transforms.sizing import LargeScaleJitter, RandomShortSide, Sizing
from maskrcnn_lib.data.transforms.step import Step
from maskrcnn_lib.data.transforms.torchvision_adapter import TorchvisionTransform

__all__ = [
    "ColorJitter",
    "CopyPaste",
    "ImageTransform",
    "JointTransform",
    "LargeScaleJitter",
    "OffsetKeypoints",
    "RandomCrop",
    "RandomFlip",
    "RandomShift",
    "RandomShortSide",
    "Sizing",
    "Step",
    "TorchvisionTransform",
    "build_transform",
    "build_transforms",
    "crop_sample",
    "resized_size",
]
