"""A data set whose targets carry regions that were proposed beforehand."""

from collections.abc import Mapping
from typing import Any

import torch

from maskrcnn_lib.data.proposals import Regions, image_ids
from maskrcnn_lib.data.statistics import read_target
from maskrcnn_lib.structures.bounding_box import BoxList


class DatasetWithProposals:
    """Another data set, with ``target.proposals`` for each image; all else is the other's.

    Args:
        dataset: any data set.
        proposals: regions by image id; those of other images are not looked at.
        source: what to call them in messages.

    Raises:
        ValueError: an image of the data set has no entry.
    """

    def __init__(self, dataset: Any, proposals: Mapping[int, Regions], *, source: str) -> None:
        ids = image_ids(dataset)
        missing = [image_id for image_id in ids if image_id not in proposals]
        if missing:
            raise ValueError(
                f"{source} lacks {len(missing)} of the {len(ids)} images of the data set, such as "
                f"image {missing[0]}; `maskrcnn proposals` makes a file for a data set"
            )
        self.dataset = dataset
        self._regions = [proposals[image_id] for image_id in ids]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # asked for while a copy is being made, before it is there
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, index: int) -> tuple[Any, BoxList, int]:
        image, target, *_ = self.dataset[index]
        return image, self._with_proposals(target, index), index

    def target(self, index: int) -> BoxList:
        """The target alone."""
        return self._with_proposals(read_target(self.dataset, index), index)

    def proposals(self, index: int) -> BoxList:
        """The regions of an image in its pixels, best first, with field ``objectness``."""
        info = self.get_img_info(index)
        regions = self._regions[index]
        boxes = BoxList(torch.from_numpy(regions.boxes), (info["width"], info["height"]))
        boxes.add_field("objectness", torch.from_numpy(regions.scores))
        return boxes

    def _with_proposals(self, target: BoxList, index: int) -> BoxList:
        result = target.copy_with_fields(target.fields())
        result.proposals = self.proposals(index)
        return result
