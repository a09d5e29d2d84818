"""Images with annotations in COCO's JSON format."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskrcnn_lib.data.image_io import read_image
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask


class COCODataset:
    """A COCO annotation file and the directory that holds its images.

    ``dataset[i]`` is (image, target, i): the image as (H, W, 3) uint8 RGB, the target a BoxList in
    pixels with fields ``labels`` (N,) int64, 1..K in the order of the category ids, and ``masks``
    (SegmentationMask) where all its objects have one. Crowd regions are not part of the target.

    Args:
        ann_file: JSON file with ``images``, ``categories`` and ``annotations``.
        root: directory of the images.

    Attributes:
        ids: image ids, sorted; position i is image i of this data set.
        categories: id -> name, in the order of the ids.
        content: the whole annotation file.

    Raises:
        FileNotFoundError: the file or the directory does not exist.
        ValueError: the file is not such JSON, or names an image outside the directory.
    """

    def __init__(self, ann_file: str | Path, root: str | Path) -> None:
        self.ann_file = Path(ann_file)
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"no image directory at {self.root}")
        self.content = _read_json(self.ann_file)
        self._images = {image["id"]: image for image in self.content["images"]}
        self.ids = sorted(self._images)
        names = {category["id"]: category["name"] for category in self.content["categories"]}
        self.categories = {category_id: names[category_id] for category_id in sorted(names)}
        self._label_of = {category_id: i for i, category_id in enumerate(self.categories, start=1)}
        self._annotations: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in self.content["annotations"]:
            self._annotations[annotation["image_id"]].append(annotation)
        for index in range(len(self)):
            self.image_path(index)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[np.ndarray, BoxList, int]:
        return self.read_image(index), self.target(index), index

    def get_img_info(self, index: int) -> dict[str, Any]:
        """COCO's entry of the image: ``id``, ``file_name``, ``height``, ``width``."""
        return self._images[self.ids[index]]

    def image_path(self, index: int) -> Path:
        """Where the image lies.

        Raises:
            ValueError: its ``file_name`` leads out of the image directory.
        """
        name = self.get_img_info(index)["file_name"]
        path = self.root / name
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ValueError(f"{self.ann_file}: file_name {name!r} leads out of {self.root}")
        return path

    def read_image(self, index: int) -> np.ndarray:
        """The image alone: (H, W, 3) uint8 RGB.

        Raises:
            ValueError: it cannot be read, or its size is not the one that the file states.
        """
        image = read_image(self.image_path(index))
        info = self.get_img_info(index)
        stated = (info.get("height", image.shape[0]), info.get("width", image.shape[1]))
        if stated != image.shape[:2]:
            raise ValueError(
                f"{self.image_path(index)} is {image.shape[1]} x {image.shape[0]} pixels, but "
                f"{self.ann_file} states {stated[1]} x {stated[0]}"
            )
        return image

    def target(self, index: int) -> BoxList:
        """The annotated objects of an image, without crowd regions."""
        info = self.get_img_info(index)
        objects = [a for a in self._annotations[info["id"]] if not a.get("iscrowd", 0)]
        boxes = torch.tensor([a["bbox"] for a in objects], dtype=torch.float32).reshape(-1, 4)
        size = (info["width"], info["height"])
        target = BoxList(boxes, size, mode="xywh").convert("xyxy")
        labels = [self._label_of[a["category_id"]] for a in objects]
        target.add_field("labels", torch.tensor(labels, dtype=torch.int64))
        if objects and all("segmentation" in a for a in objects):
            target.add_field("masks", SegmentationMask([a["segmentation"] for a in objects], size))
        return target


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no annotation file at {path}")
    try:
        # utf-8-sig also takes files that begin with a byte order mark
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    needed = ("images", "categories", "annotations")
    missing = [k for k in needed if not isinstance(content, dict) or k not in content]
    if missing:
        raise ValueError(f"{path} is not a COCO annotation file: it lacks {', '.join(missing)}")
    return content
