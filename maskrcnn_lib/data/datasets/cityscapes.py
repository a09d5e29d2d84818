"""Cityscapes, from its own files."""

import logging
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from maskrcnn_lib.data.annotation_masks import check_segmentation
from maskrcnn_lib.data.annotation_report import Action
from maskrcnn_lib.data.converters.cityscapes import (
    LABEL_IDS,
    MODES,
    find_annotated,
    read_instance_ids,
    read_polygons,
    split_instances,
)
from maskrcnn_lib.data.datasets.targets import build_target
from maskrcnn_lib.data.image_io import read_image
from maskrcnn_lib.data.image_size import read_image_size
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.polygons import trace

_logger = logging.getLogger(__name__)


class CityScapesDataset:
    """Images and annotations of one split; annotations are read when they are asked for.

    ``dataset[i]`` is as that of :class:`maskrcnn_lib.data.datasets.COCODataset`. There are the
    eight classes that Cityscapes evaluates; maskrcnn-benchmark also had caravans and trailers,
    which are not. To read the annotations once instead of in every epoch, use
    ``maskrcnn convert cityscapes``.

    Attributes:
        categories: label id -> name.
        class_names: names by label, index 0 the background.
        ids: position of each image, in the order of the file names.
    """

    evaluation_rules: ClassVar[str] = "cityscapes"

    def __init__(
        self,
        img_dir: str | Path,
        ann_dir: str | Path,
        split: str,
        mode: str = "mask",
        mini: int | None = None,
        *,
        remove_images_without_annotations: bool = False,
    ) -> None:
        """Finds the files.

        Args:
            img_dir: directory of the split in ``leftImg8bit``.
            ann_dir: directory of the split in ``gtFine`` or ``gtCoarse``.
            split: name of the split, for messages.
            mode: ``"mask"``: the visible pixels of each object; ``"poly"``: the polygons as they
                were drawn, also where something nearer hides them.
            mini: take only the first so many images.
            remove_images_without_annotations: leave out images without objects.

        Raises:
            FileNotFoundError: a directory or file does not exist.
            ValueError: unknown mode, or a file cannot be read.
        """
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got {mode!r}")
        self.mode = mode
        self.source = f"{ann_dir} ({split})"
        self._files = find_annotated(Path(img_dir), Path(ann_dir))[:mini]
        if remove_images_without_annotations:
            self._files = [files for files in self._files if _has_objects(files.polygons)]
        self._sizes = [read_image_size(files.image) for files in self._files]
        self.ids = list(range(len(self._files)))
        self.categories = {label_id: name for name, label_id in LABEL_IDS.items()}
        self.class_names = ["__background__", *LABEL_IDS]
        self._label_of = {label_id: i for i, label_id in enumerate(self.categories, start=1)}

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[np.ndarray, BoxList, int]:
        return self.read_image(index), self.target(index), index

    def get_img_info(self, index: int) -> dict[str, Any]:
        """``id``, ``file_name``, ``height`` and ``width`` of the image."""
        width, height = self._sizes[index]
        name = "/".join(self._files[index].image.parts[-2:])
        return {"id": self.ids[index], "file_name": name, "width": width, "height": height}

    def image_path(self, index: int) -> Path:
        """Where the image lies."""
        return self._files[index].image

    def read_image(self, index: int) -> np.ndarray:
        """The image alone: (H, W, 3) uint8 RGB."""
        return read_image(self._files[index].image)

    def target(self, index: int) -> BoxList:
        """The objects of an image, without groups.

        Raises:
            ValueError: the annotations cannot be read, or belong to an image of another size.
        """
        objects = [a for a in self.annotations(index) if not a["iscrowd"]]
        return build_target(objects, self._sizes[index], self._label_of)

    def annotations(self, index: int) -> list[dict[str, Any]]:
        """The objects and groups of an image, as COCO's annotations with polygons.

        Raises:
            ValueError: as :meth:`target`.
        """
        path, size = self._files[index].image, self._sizes[index]

        def add(_: Action, kind: str, detail: str) -> None:
            _logger.warning("annotations of %s: %s left out (%s)", path, kind, detail)

        result = []
        for name, is_crowd, polygons in self._read_objects(index):
            mask = check_segmentation(polygons, size, add)
            if mask is not None:
                annotation = {"image_id": self.ids[index], "category_id": LABEL_IDS[name]}
                annotation |= {"iscrowd": int(is_crowd), "segmentation": mask.segmentation}
                result.append(annotation | {"bbox": list(mask.box), "area": mask.area()})
        return result

    def instance_ids(self, index: int) -> np.ndarray:
        """(H, W) int32: number of the instance at each pixel, whatever the ``mode``.

        Label id * 1000 + count for an object, the label id alone for groups and other pixels.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it cannot be read, or belongs to an image of another size.
        """
        path = self._files[index].instance_ids
        ids = read_instance_ids(path)
        _check_size(path, (ids.shape[1], ids.shape[0]), self._sizes[index])
        return ids

    def _read_objects(self, index: int) -> list[tuple[str, bool, list[list[float]]]]:
        """Class, whether it is a group, and polygons of each object."""
        files, size = self._files[index], self._sizes[index]
        if self.mode == "poly":
            stated, found = read_polygons(files.polygons)
            _check_size(files.polygons, stated, size)
            return [(name, is_crowd, [polygon]) for name, is_crowd, polygon in found]
        return [
            (i.name, i.is_crowd, [(p + i.corner).reshape(-1).tolist() for p in trace(i.crop)])
            for i in split_instances(self.instance_ids(index))
        ]

    @property
    def content(self) -> dict[str, Any]:
        """All images and annotations as COCO's JSON; reads every annotation file."""
        annotations = [a for i in range(len(self)) for a in self.annotations(i)]
        return {
            "images": [self.get_img_info(i) for i in range(len(self))],
            "annotations": [{**a, "id": i} for i, a in enumerate(annotations, start=1)],
            "categories": [{"id": i, "name": name} for i, name in self.categories.items()],
        }


def _has_objects(polygons: Path) -> bool:
    return any(not is_crowd for _, is_crowd, _ in read_polygons(polygons)[1])


def _check_size(path: Path, stated: tuple[int, int], size: tuple[int, int]) -> None:
    if stated != size:
        raise ValueError(
            f"{path} is of an image of {stated[0]} x {stated[1]} pixels, but the image has "
            f"{size[0]} x {size[1]}"
        )
