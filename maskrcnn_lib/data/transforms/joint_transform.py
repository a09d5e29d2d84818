"""The transform of image and objects: random changes in training, then resize and normalise."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from maskrcnn_lib.config.dialects import get_dialect
from maskrcnn_lib.config.pixels import pixel_statistics
from maskrcnn_lib.data.transforms.color import ColorJitter
from maskrcnn_lib.data.transforms.crop import RandomCrop
from maskrcnn_lib.data.transforms.flip import RandomFlip
from maskrcnn_lib.data.transforms.image_transform import ImageTransform, build_transform
from maskrcnn_lib.data.transforms.keypoints import OffsetKeypoints
from maskrcnn_lib.data.transforms.shift import RandomShift
from maskrcnn_lib.data.transforms.sizing import LargeScaleJitter, RandomShortSide, Sizing
from maskrcnn_lib.data.transforms.step import Step
from maskrcnn_lib.structures.bounding_box import BoxList


class JointTransform:
    """Takes an image and its objects to what the network sees.

    Args:
        steps: applied in order to the uint8 image.
        sizing: chooses the size.
        image_transform: resizes and normalises, as at inference.
        shift: moves what comes out; None leaves it as it is.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        *,
        sizing: Sizing,
        image_transform: ImageTransform,
        shift: RandomShift | None = None,
    ) -> None:
        self.steps = tuple(steps)
        self.sizing = sizing
        self.image_transform = image_transform
        self.shift = shift

    def __call__(
        self, image: np.ndarray, target: BoxList, rng: np.random.Generator
    ) -> tuple[Tensor, BoxList]:
        """Transforms one sample.

        Args:
            image: (H, W, 3) uint8 RGB.
            target: its objects, in mode xyxy.
            rng: source of all randomness.

        Returns:
            (3, H', W') float32 image, and the objects in its pixels.
        """
        for step in self.steps:
            image, target = step(image, target, rng)
        image, target, (height, width) = self.sizing(image, target, rng)
        pixels = self.image_transform(image, size=(height, width))
        target = target.resize((width, height))
        return (pixels, target) if self.shift is None else self.shift(pixels, target, rng)


def build_transforms(
    cfg: Any, is_train: bool = True, *, extra_steps: Sequence[Step] = ()
) -> JointTransform:
    """The transform of samples that a config describes.

    Args:
        cfg: reads INPUT.*, MODEL.DIALECT and MODEL.KEYPOINT_ON.
        is_train: with the random changes of training; otherwise resized and normalised alone.
        extra_steps: one's own, applied after colour jitter, crop and flip, before resizing.
    """
    steps = [*(_build_steps(cfg.INPUT) if is_train else ()), *extra_steps]
    keypoint_offset = get_dialect(cfg.MODEL.DIALECT).keypoint_offset
    if cfg.MODEL.KEYPOINT_ON and keypoint_offset:
        steps.insert(0, OffsetKeypoints(keypoint_offset))
    return JointTransform(
        steps,
        sizing=_build_sizing(cfg, is_train=is_train),
        image_transform=build_transform(cfg),
        shift=_build_shift(cfg) if is_train else None,
    )


def _build_steps(inputs: Any) -> list[Step]:
    """The random changes that the node INPUT asks for."""
    steps: list[Step] = []
    jitter = ColorJitter(
        brightness=inputs.BRIGHTNESS,
        contrast=inputs.CONTRAST,
        saturation=inputs.SATURATION,
        hue=inputs.HUE,
    )
    if jitter.ranges:
        steps.append(jitter)
    if inputs.CROP.PROB > 0:
        steps.append(RandomCrop(probability=inputs.CROP.PROB, min_share=inputs.CROP.MIN_SHARE))
    horizontal, vertical = inputs.HORIZONTAL_FLIP_PROB_TRAIN, inputs.VERTICAL_FLIP_PROB_TRAIN
    if horizontal > 0 or vertical > 0:
        steps.append(RandomFlip(horizontal=horizontal, vertical=vertical))
    return steps


def _build_shift(cfg: Any) -> RandomShift | None:
    keys = cfg.INPUT.SHIFT
    if keys.PROB == 0:
        return None
    black = [-mean / std for mean, std in zip(*pixel_statistics(cfg), strict=True)]
    return RandomShift(probability=keys.PROB, pixels=keys.PIXELS, black=black)


def _build_sizing(cfg: Any, *, is_train: bool) -> Sizing:
    inputs, rule = cfg.INPUT, get_dialect(cfg.MODEL.DIALECT).output_size
    if not is_train:
        return RandomShortSide([inputs.MIN_SIZE_TEST], inputs.MAX_SIZE_TEST, rule=rule)
    if inputs.LSJ.ENABLED:
        return LargeScaleJitter(inputs.LSJ.SIZE, scales=tuple(inputs.LSJ.SCALES))
    return RandomShortSide(
        inputs.MIN_SIZE_TRAIN,
        inputs.MAX_SIZE_TRAIN,
        sampling=inputs.MIN_SIZE_TRAIN_SAMPLING,
        rule=rule,
    )
