"""Any transform of torchvision.transforms.v2 as a step of ours."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from maskrcnn_lib.data.transforms.crop import visible_boxes
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.keypoint import Keypoints
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask


class TorchvisionTransform:
    """Runs a torchvision v2 transform on the image, its boxes, masks and keypoints.

    Masks are given to it as bitmaps and boxes are drawn anew around what it makes of them; where it
    leaves boxes, masks and size alone, the polygons stay as they are. Objects that it removes
    (``SanitizeBoundingBoxes`` and the like), or that lie outside the image afterwards, are removed
    with all their fields. Its random numbers come from the sample's own seed.

    Args:
        transform: takes and returns a dict with ``image`` (tv_tensors.Image, uint8) and, with
            objects, ``boxes``, ``masks``, ``keypoints`` (tv_tensors) and ``labels``, which here
            number the objects.
    """

    def __init__(self, transform: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.transform = transform

    def __call__(
        self, image: np.ndarray, target: BoxList, rng: np.random.Generator
    ) -> tuple[np.ndarray, BoxList]:
        """Raises ValueError where the image does not stay uint8 RGB, or proposals would move."""
        given = _to_sample(image, target)
        with _seeded(int(rng.integers(1 << 31))):
            changed = self.transform(dict(given))
        pixels = changed["image"]
        if pixels.dtype != torch.uint8 or pixels.dim() != 3 or pixels.shape[0] != 3:
            raise ValueError(
                f"{self.transform} made a {tuple(pixels.shape)} {pixels.dtype} image; only such "
                "transforms can be used here that keep (3, H, W) uint8"
            )
        array = pixels.as_subclass(torch.Tensor).permute(1, 2, 0).contiguous().numpy()
        return array, _to_target(target, given, changed)


def _to_sample(image: np.ndarray, target: BoxList) -> dict[str, Any]:
    from torchvision import tv_tensors

    height, width = image.shape[:2]
    sample: dict[str, Any] = {
        "image": tv_tensors.Image(torch.from_numpy(image.copy()).permute(2, 0, 1)),
        "boxes": tv_tensors.BoundingBoxes(
            target.bbox.clone(), format="XYXY", canvas_size=(height, width)
        ),
        "labels": torch.arange(len(target)),
    }
    if target.has_field("masks"):
        sample["masks"] = tv_tensors.Mask(target.get_field("masks").get_mask_tensor())
    if target.has_field("keypoints"):
        points = target.get_field("keypoints").keypoints
        sample["keypoints"] = tv_tensors.KeyPoints(
            points[..., :2].clone(), canvas_size=(height, width)
        )
    return sample


def _to_target(target: BoxList, given: dict[str, Any], changed: dict[str, Any]) -> BoxList:
    """The objects that are left, where they are now."""
    kept = changed["labels"]
    target = target[kept]
    moved = any(
        not torch.equal(given[name][kept], changed[name])
        for name in ("boxes", "masks", "keypoints")
        if name in given
    )
    height, width = changed["image"].shape[-2:]
    if not moved and target.size == (width, height):
        return target
    if target.proposals is not None:
        raise ValueError(
            "transforms of torchvision cannot move loaded proposals (MODEL.LOAD_PROPOSALS) with "
            "the image: use those of maskrcnn_lib.data.transforms, or such that only change colours"
        )
    result = BoxList(changed["boxes"].as_subclass(torch.Tensor), (width, height))
    result.extra_fields = dict(target.extra_fields)
    if target.has_field("masks"):
        bitmaps = SegmentationMask(
            changed["masks"].as_subclass(torch.Tensor).to(torch.bool), (width, height), "mask"
        )
        result.bbox = visible_boxes(bitmaps)
        result.add_field("masks", bitmaps.convert(target.get_field("masks").mode))
    if target.has_field("keypoints"):
        result.add_field("keypoints", _moved_keypoints(target.get_field("keypoints"), changed))
    return result.clip_to_image()


def _moved_keypoints(keypoints: Keypoints, changed: dict[str, Any]) -> Keypoints:
    """The points at their new places; what left the image, or was not labelled, is unlabelled."""
    height, width = changed["image"].shape[-2:]
    places = changed["keypoints"].as_subclass(torch.Tensor)
    points = torch.cat((places, keypoints.keypoints[..., 2:]), dim=-1)
    result = type(keypoints)(points, (width, height), keypoints.skeleton)
    result.extra_fields = dict(keypoints.extra_fields)
    return result.crop((0, 0, width, height))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """torch's, Python's and numpy's global generators from ``seed``; restored afterwards."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
