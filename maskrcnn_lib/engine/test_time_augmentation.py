"""Test-time augmentation: a detector that looks at each image several times, as Detectron does.

The candidates of all views (sizes, mirrored images) go into one NMS, class by class. Masks and heat
maps of what it keeps are then means over views, which need not be the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from maskrcnn_lib.engine.detector import Detector
from maskrcnn_lib.engine.postprocess import restore_original_size, scale_boxes
from maskrcnn_lib.modeling.detector.generalized_rcnn import to_boxlists
from maskrcnn_lib.modeling.outputs import Detections
from maskrcnn_lib.modeling.suppression import Candidates, join_candidates
from maskrcnn_lib.structures.bounding_box import FLIP_LEFT_RIGHT, BoxList
from maskrcnn_lib.structures.image_list import ImageList, to_image_list
from maskrcnn_lib.structures.keypoint import make_keypoints

_NEARLY_ONE = 1e-7  # probabilities closer to 0 or 1 than float32 can tell have no finite logit


@dataclass(frozen=True)
class View:
    """One way to look at an image.

    Attributes:
        min_size, max_size: of its sides in pixels, as of ``ImageTransform``.
        aspect_ratio: factor on the image's width, before the size is chosen.
        mirrored: whether left and right change places.
    """

    min_size: int
    max_size: int
    aspect_ratio: float = 1.0
    mirrored: bool = False


@dataclass(frozen=True)
class Augmentation:
    """How often a detector looks, and how it sums up.

    Attributes:
        boxes: views on which boxes are found; detections are in pixels of the first one.
        masks: views of which masks are the mean.
        keypoints: views of which heat maps are the mean.
        mask_mean: ``"SOFT_AVG"`` of probabilities, ``"SOFT_MAX"`` the highest, ``"LOGIT_AVG"``.
        keypoint_mean: ``"HM_AVG"`` of logits, or ``"HM_MAX"`` the highest.
        large_area: square pixels of the original image from which an object's keypoints are not
            looked for on enlarged views, and below which not on reduced ones; None: on all.
    """

    boxes: tuple[View, ...]
    masks: tuple[View, ...]
    keypoints: tuple[View, ...]
    mask_mean: str = "SOFT_AVG"
    keypoint_mean: str = "HM_AVG"
    large_area: float | None = None


class Look(NamedTuple):
    """An image in a view, and what the backbone made of it."""

    view: View
    images: ImageList
    features: list[Tensor]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height without padding."""
        height, width = self.images.image_sizes[0]
        return width, height


class AugmentedDetector(Detector):
    """A detector that looks at each image several times; called and answering as ``Detector``.

    Images go through the model one by one. The feature maps of views that masks or keypoints are
    wanted of stay in memory until the image is done.

    Args:
        augmentation: how often.
        model, settings: as of ``Detector``; the model has ``backbone``, ``candidates``,
            ``suppress`` and ``roi_heads``, as ``GeneralizedRCNN``.

    Raises:
        ValueError: the model is of another kind; or mirrored keypoints are wanted, but it is not
            known which of them are left and right.
    """

    def __init__(self, model: Any, *, augmentation: Augmentation, **settings: Any) -> None:
        super().__init__(model, **settings)
        if not hasattr(model, "candidates"):
            raise ValueError(
                f"a {type(model).__name__} does not say what it nearly found, which test-time "
                "augmentation needs: set TEST.BBOX_AUG.ENABLED (and of MASK_AUG, KPS_AUG) to False"
            )
        self.augmentation = augmentation
        self._mask = getattr(model.roi_heads, "mask", None)
        self._keypoint = getattr(model.roi_heads, "keypoint", None)
        self._partners = None if self._keypoint is None else self._keypoint_partners()

    @torch.inference_mode()
    def __call__(
        self, images: Sequence[np.ndarray], proposals: Sequence[BoxList] | None = None
    ) -> list[BoxList]:
        """Runs the model on each image; arguments and results as of ``Detector``."""
        given = [None] * len(images) if proposals is None else proposals
        with self._autocast():
            return [self._detect(image, own) for image, own in zip(images, given, strict=True)]

    def _detect(self, image: np.ndarray, proposals: BoxList | None) -> BoxList:
        plan = self.augmentation
        needed_again = {
            *(plan.masks if self._mask is not None else ()),
            *(plan.keypoints if self._keypoint is not None else ()),
        }
        looks, parts = {}, []
        for view in plan.boxes:
            look = self._look(image, view, proposals)
            if not parts:
                plain = look.size
            found = self.model.candidates(look.images, look.features)
            parts.append(found._replace(boxes=self._to_plain(found.boxes, look, plain)))
            if view in needed_again:
                looks[view] = look
        for view in needed_again - looks.keys():
            looks[view] = self._look(image, view, proposals)
        detections = self.model.suppress(_joined(parts))
        height, width = image.shape[:2]
        if self._mask is not None:
            detections = self._with_masks(detections, [looks[v] for v in plan.masks], plain)
        if self._keypoint is not None:
            area = width * height / (plain[0] * plain[1])
            seen = [looks[v] for v in plan.keypoints]
            detections = self._with_keypoints(detections, seen, plain, area)
        skeleton = None if self._keypoint is None else self._keypoint.skeleton
        (found,) = to_boxlists(detections, [plain[::-1]], skeleton=skeleton)
        return restore_original_size(found.to("cpu"), (width, height), self.dialect)

    def _look(self, image: np.ndarray, view: View, proposals: BoxList | None) -> Look:
        height, width = image.shape[:2]
        size = self.transform.size_of(
            height,
            round(width * view.aspect_ratio),
            min_size=view.min_size,
            max_size=view.max_size,
        )
        pixels = self.transform(image, size=size)
        images = to_image_list([pixels.flip(-1) if view.mirrored else pixels], self.size_divisible)
        if proposals is not None:
            resized = proposals.resize(size[::-1])
            mirrored = resized.transpose(FLIP_LEFT_RIGHT) if view.mirrored else resized
            images.proposals = [mirrored]
        images = images.to(self.device, memory_format=torch.channels_last)
        return Look(view, images, self.model.backbone(images.tensors))

    def _to_plain(self, boxes: Tensor, look: Look, plain: tuple[int, int]) -> Tensor:
        """Boxes of a look in pixels of the plain view, whose width and height are given."""
        boxes = _mirror(boxes, look.size[0]) if look.view.mirrored else boxes
        return scale_boxes(boxes, look.size, plain, end_offset=self.dialect.box_end_offset)

    def _in_look(self, detections: Detections, look: Look, plain: tuple[int, int]) -> Detections:
        """The detections where the look has them."""
        end_offset = self.dialect.box_end_offset
        boxes = scale_boxes(detections.boxes, plain, look.size, end_offset=end_offset)
        boxes = _mirror(boxes, look.size[0]) if look.view.mirrored else boxes
        return detections._replace(boxes=boxes)

    def _with_masks(
        self, detections: Detections, looks: Sequence[Look], plain: tuple[int, int]
    ) -> Detections:
        seen = []
        for look in looks:
            found = self._mask(look.features, self._in_look(detections, look, plain))
            masks = found.masks.flip(-1) if look.view.mirrored else found.masks
            seen.append(found._replace(masks=masks))
        masks = mean_masks(torch.stack([s.masks for s in seen]), self.augmentation.mask_mean)
        scores = [s.mask_scores for s in seen if s.mask_scores is not None]
        mean = torch.stack(scores).mean(dim=0) if scores else None
        return detections._replace(masks=masks, mask_scores=mean)

    def _with_keypoints(
        self,
        detections: Detections,
        looks: Sequence[Look],
        plain: tuple[int, int],
        area_factor: float,
    ) -> Detections:
        """The detections with their keypoints; a square pixel has ``area_factor`` original ones."""
        seen = []
        for look in looks:
            maps = self._keypoint.predict(look.features, self._in_look(detections, look, plain))
            seen.append(maps[:, self._partners].flip(-1) if look.view.mirrored else maps)
        sides = detections.boxes.flatten(0, 1)[:, 2:] - detections.boxes.flatten(0, 1)[:, :2]
        counts = self._counts(sides.prod(dim=1) * area_factor)
        maps = mean_heat_maps(torch.stack(seen).float(), counts, self.augmentation.keypoint_mean)
        return self._keypoint.complete(detections, maps)

    def _counts(self, areas: Tensor) -> Tensor:
        """(views, K) whether a view counts for objects of these areas in original pixels."""
        plan, first = self.augmentation, self.augmentation.boxes[0]
        if plan.large_area is None:
            return areas.new_ones(len(plan.keypoints), len(areas), dtype=torch.bool)
        large = areas >= plan.large_area
        factors = [v.min_size / first.min_size * v.aspect_ratio for v in plan.keypoints]
        return torch.stack(
            [large if f < 1 else ~large if f > 1 else torch.ones_like(large) for f in factors]
        )

    def _keypoint_partners(self) -> list[int]:
        """For each keypoint the one that takes its place in a mirror."""
        count, skeleton = self._keypoint.num_keypoints, self._keypoint.skeleton
        partners = make_keypoints(torch.zeros(0, count, 3), (1, 1), skeleton).FLIP_INDS
        if partners:
            return list(partners)
        if any(view.mirrored for view in self.augmentation.keypoints):
            raise ValueError(
                f"TEST.KPS_AUG mirrors images, but the names of the {count} keypoints are not "
                "known, nor which are left and right: set MODEL.ROI_KEYPOINT_HEAD.NAMES"
            )
        return list(range(count))


def _joined(parts: Sequence[Candidates]) -> Candidates:
    return parts[0] if len(parts) == 1 else join_candidates(parts)


def _mirror(boxes: Tensor, width: int) -> Tensor:
    """Boxes (..., 4) in the mirrored image."""
    x1, y1, x2, y2 = boxes.unbind(dim=-1)
    return torch.stack((width - x2, y1, width - x1, y2), dim=-1)


def mean_masks(masks: Tensor, method: str) -> Tensor:
    """Probabilities (...) of V views (V, ...); see ``Augmentation.mask_mean``."""
    if method == "SOFT_MAX":
        return masks.amax(dim=0)
    if method == "LOGIT_AVG":
        return masks.float().logit(eps=_NEARLY_ONE).mean(dim=0).sigmoid()
    return masks.mean(dim=0)


def mean_heat_maps(maps: Tensor, counts: Tensor, method: str) -> Tensor:
    """Logits (K, P, M, M) of V views.

    Args:
        maps: (V, K, P, M, M).
        counts: (V, K) bool, which views count for an object; at least one.
        method: see ``Augmentation.keypoint_mean``.
    """
    weights = counts[:, :, None, None, None]
    if method == "HM_MAX":
        return maps.masked_fill(~weights, -torch.inf).amax(dim=0)
    return (maps * weights).sum(dim=0) / weights.sum(dim=0)


def build_augmentation(cfg: Any, *, min_size: int | None = None) -> Augmentation | None:
    """What ``TEST.BBOX_AUG``, ``MASK_AUG`` and ``KPS_AUG`` ask for; None for nothing.

    Args:
        cfg: the whole config.
        min_size: short side of the plain view instead of ``INPUT.MIN_SIZE_TEST``.
    """
    boxes, masks, keypoints = cfg.TEST.BBOX_AUG, cfg.TEST.MASK_AUG, cfg.TEST.KPS_AUG
    if not (boxes.ENABLED or masks.ENABLED or keypoints.ENABLED):
        return None
    plain = View(min_size or cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    return Augmentation(
        *(_views(keys, plain) for keys in (boxes, masks, keypoints)),
        mask_mean=masks.HEUR,
        keypoint_mean=keypoints.HEUR,
        large_area=keypoints.AREA_TH if keypoints.SCALE_SIZE_DEP else None,
    )


def _views(keys: Any, plain: View) -> tuple[View, ...]:
    """The plain view first, and none twice."""
    if not keys.ENABLED:
        return (plain,)
    sized = [(plain, keys.H_FLIP)]
    sized += [(View(scale, keys.MAX_SIZE), keys.SCALE_H_FLIP) for scale in keys.SCALES]
    stretched = (replace(plain, aspect_ratio=ratio) for ratio in keys.ASPECT_RATIOS)
    sized += [(view, keys.ASPECT_RATIO_H_FLIP) for view in stretched]
    views = [
        replace(view, mirrored=mirrored)
        for view, is_mirrored in sized
        for mirrored in ((False, True) if is_mirrored else (False,))
    ]
    return tuple(dict.fromkeys(views))
