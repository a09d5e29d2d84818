"""Several data sets as one, with one list of classes."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from maskrcnn_lib.data.statistics import read_target
from maskrcnn_lib.structures.bounding_box import BoxList

_BACKGROUND = "__background__"
_LEFT_OUT = 0  # label of classes that the map takes away


class ConcatDataset:
    """The images of several data sets one after another.

    Classes are matched by name: the data sets may have other classes, or the same ones in another
    order. Data sets that name no classes keep their labels.

    Attributes:
        datasets: the parts.
        categories: label -> name of the whole; empty where no part names its classes.
        class_names: names by label, index 0 the background; empty likewise.
        skeleton: keypoints of the first part that names its own; None where no part does.
            ``check_num_classes`` refuses to learn keypoints from parts that differ.
    """

    def __init__(
        self,
        datasets: Sequence[Any],
        class_names: Sequence[str] | None = None,
        class_maps: Sequence[Mapping[str, str | None] | None] | None = None,
    ) -> None:
        """Joins data sets.

        Args:
            datasets: objects with ``__len__``, ``__getitem__`` and ``get_img_info``, and optionally
                ``categories`` (id -> name in the order of the labels).
            class_names: classes of the whole, without background; by default all of the parts' in
                the order in which they first appear.
            class_maps: per data set its own class name -> the whole's, or None to leave out the
                objects of a class; names that a map does not mention stay as they are.

        Raises:
            ValueError: no data set; some name their classes and some do not; a class that
                ``class_names`` lacks, or a name twice in it.
            KeyError: a map mentions a class that its data set does not have.
        """
        if not datasets:
            raise ValueError("ConcatDataset needs at least one data set")
        self.datasets = list(datasets)
        self._ends = list(accumulate(len(dataset) for dataset in self.datasets))
        maps = list(class_maps) if class_maps is not None else [None] * len(self.datasets)
        if len(maps) != len(self.datasets):
            raise ValueError(f"{len(maps)} class maps given for {len(self.datasets)} data sets")
        names = [_mapped_names(dataset, m) for dataset, m in zip(self.datasets, maps, strict=True)]
        named = [part for part in names if part is not None]
        if named and len(named) != len(names):
            raise ValueError(
                f"{len(names) - len(named)} of {len(names)} data sets name no classes; give all of "
                "them `categories` (id -> name), or none"
            )
        if class_names is None:
            class_names = list(dict.fromkeys(n for part in named for n in part if n is not None))
        self.categories = dict(enumerate(class_names, start=1))
        self.class_names = [_BACKGROUND, *class_names] if class_names else []
        skeletons = (getattr(dataset, "skeleton", None) for dataset in self.datasets)
        self.skeleton = next((skeleton for skeleton in skeletons if skeleton is not None), None)
        self._label_maps = [_label_map(part, self.categories) for part in names]

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> tuple[Any, BoxList, int]:
        part, position = self.locate(index)
        image, target, *_ = self.datasets[part][position]
        return image, self._relabel(target, part), index

    def target(self, index: int) -> BoxList:
        """The target alone, where the part can give it without reading the image."""
        part, position = self.locate(index)
        return self._relabel(read_target(self.datasets[part], position), part)

    def get_img_info(self, index: int) -> dict[str, Any]:
        """Height, width and whatever else the part says of the image."""
        part, position = self.locate(index)
        return self.datasets[part].get_img_info(position)

    def locate(self, index: int) -> tuple[int, int]:
        """Number of the data set that holds image ``index``, and the position there.

        Raises:
            IndexError: there is no such image.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} images")
        part = bisect_right(self._ends, index)
        return part, index - (self._ends[part - 1] if part else 0)

    def _relabel(self, target: BoxList, part: int) -> BoxList:
        label_map = self._label_maps[part]
        if label_map is None:
            return target
        labels = label_map[target.get_field("labels")]
        result = target.copy_with_fields(target.fields())
        result.add_field("labels", labels)
        return result[labels != _LEFT_OUT] if (labels == _LEFT_OUT).any() else result


def _mapped_names(
    dataset: Any, class_map: Mapping[str, str | None] | None
) -> list[str | None] | None:
    """The data set's class names, in the order of its labels, as the whole calls them."""
    categories = getattr(dataset, "categories", None)
    if not categories:
        if class_map:
            raise ValueError("a class map needs a data set with `categories` (id -> name)")
        return None
    names = list(categories.values())
    class_map = class_map or {}
    unknown = sorted(set(class_map) - set(names))
    if unknown:
        raise KeyError(f"class map names {', '.join(unknown)}, but the data set has {names}")
    return [class_map.get(name, name) for name in names]


def _label_map(names: Sequence[str | None] | None, categories: Mapping[int, str]) -> Tensor | None:
    """(K + 1,) int64: the whole's label per label of a part; None where nothing changes."""
    if names is None:
        return None
    labels = {name: label for label, name in categories.items()}
    if len(labels) != len(categories):
        raise ValueError(f"class names have to differ, got {list(categories.values())}")
    missing = [name for name in names if name is not None and name not in labels]
    if missing:
        raise ValueError(
            f"classes {', '.join(missing)} are not in class_names; map them to one of "
            f"{list(labels)}, or to None to leave out their objects"
        )
    mapped = [0, *(_LEFT_OUT if name is None else labels[name] for name in names)]
    return None if mapped == list(range(len(mapped))) else torch.tensor(mapped, dtype=torch.int64)
