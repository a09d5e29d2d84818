"""What a data set holds, and whether its targets are as training needs them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from maskrcnn_lib.structures.bounding_box import BoxList

# Areas in square pixels that COCO calls small and large.
_SMALL, _LARGE = 32**2, 96**2


@dataclass
class DatasetStatistics:
    """Counts over all images of a data set.

    Attributes:
        class_names: by label, index 0 the background; empty where the data set names none.
        images: number of images.
        without_objects: of these, images without any object.
        objects: objects per class name.
        images_of: images per class name.
        sizes: objects per COCO's size: ``small``, ``medium``, ``large``.
        most: largest number of objects in one image.
        with_masks: objects that have a mask.
        problems: what is wrong with targets, one line each.
    """

    class_names: list[str] = field(default_factory=list)
    images: int = 0
    without_objects: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    images_of: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    most: int = 0
    with_masks: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, index: int, target: BoxList, info: dict[str, Any]) -> None:
        """Counts one image; ``info`` is what ``get_img_info`` says of it."""
        self.images += 1
        problems = list(target_problems(target, info, self.class_names))
        self.problems += [f"image {index}: {problem}" for problem in problems]
        if not isinstance(target, BoxList):
            return
        self.without_objects += not len(target)
        self.most = max(self.most, len(target))
        labels = target.get_field("labels").tolist() if target.has_field("labels") else []
        count = len(self.class_names)
        names = [self.class_names[i] if 0 < i < count else f"label {i}" for i in labels]
        self.objects.update(names)
        self.images_of.update(set(names))
        for area in target.area().tolist():
            self.sizes["small" if area < _SMALL else "medium" if area < _LARGE else "large"] += 1
        if target.has_field("masks"):
            self.with_masks += len(target)


def dataset_statistics(dataset: Any) -> DatasetStatistics:
    """Counts what a data set holds.

    Images are read only where the data set cannot give a target without (method ``target``).
    """
    statistics = DatasetStatistics(class_names_of(dataset))
    for index in range(len(dataset)):
        statistics.add(index, read_target(dataset, index), dataset.get_img_info(index))
    return statistics


def read_target(dataset: Any, index: int) -> BoxList:
    """The target of an image, without the image where the data set can do that."""
    return dataset.target(index) if hasattr(dataset, "target") else dataset[index][1]


def class_names_of(dataset: Any) -> list[str]:
    """Names by label, index 0 the background; empty for a data set that does not name them."""
    categories = getattr(dataset, "categories", None) or {}
    return ["__background__", *categories.values()] if categories else []


def target_problems(
    target: Any, info: dict[str, Any], class_names: Sequence[str] = ()
) -> Iterator[str]:
    """What keeps a target from being trained on; nothing for a good one.

    Args:
        target: what the data set gives.
        info: ``get_img_info`` of the image.
        class_names: by label, where they are known.
    """
    if not isinstance(target, BoxList):
        yield f"the target is a {type(target).__name__}, not a BoxList"
        return
    if tuple(target.size) != (info["width"], info["height"]):
        yield f"the target's size {target.size} is not get_img_info's width and height"
    boxes = target.convert("xyxy").bbox
    width, height = target.size
    if (boxes < 0).any() or (boxes > boxes.new_tensor([width, height, width, height])).any():
        yield "a box reaches out of the image"
    yield from untrainable(target)
    labels = target.get_field("labels") if target.has_field("labels") else None
    if class_names and isinstance(labels, torch.Tensor) and (labels >= len(class_names)).any():
        yield f"label {int(labels.max())} is beyond the {len(class_names) - 1} classes"


def untrainable(target: BoxList) -> Iterator[str]:
    """What makes the losses fail, or wrong, whatever the model; nothing for a good target."""
    boxes = target.convert("xyxy").bbox
    bad = ~(boxes.isfinite().all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1))
    if bad.any():
        row = int(bad.nonzero()[0])
        yield f"box {row}, {boxes[row].tolist()} (x1, y1, x2, y2), is not finite or has no area"
    for name in ("masks", "keypoints"):
        if target.has_field(name) and tuple(target.get_field(name).size) != tuple(target.size):
            size = target.get_field(name).size
            yield f"field {name!r} is of an image of {size}, but the BoxList of {target.size}"
    labels = target.get_field("labels") if target.has_field("labels") else None
    if not isinstance(labels, torch.Tensor) or labels.dtype != torch.int64:
        found = getattr(labels, "dtype", type(labels).__name__) if labels is not None else "none"
        yield f"field 'labels' must be a tensor (N,) int64 from 1, got {found}"
    elif (labels < 1).any():
        yield f"label {int(labels.min())} is below 1 (0 is the background)"
