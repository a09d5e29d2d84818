"""Images with annotations in COCO's JSON format."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn_lib.data.annotation_report import AnnotationReport
from maskrcnn_lib.data.annotations import ValidContent, validate_coco
from maskrcnn_lib.data.converters.content import read_json
from maskrcnn_lib.data.datasets.packed import PackedRecords
from maskrcnn_lib.data.datasets.targets import build_target
from maskrcnn_lib.data.image_io import read_image
from maskrcnn_lib.data.image_size import check_image_size
from maskrcnn_lib.structures.bounding_box import BoxList

_logger = logging.getLogger(__name__)
_MIN_SIDE = 1.0  # pixels; an image of which all boxes are thinner counts as one without objects


class COCODataset:
    """A COCO annotation file and the directory that holds its images.

    ``dataset[i]`` is (image, target, i): the image as (H, W, 3) uint8 RGB, the target a BoxList in
    pixels with fields ``labels`` (N,) int64, 1..K in the order of the category ids, ``masks``
    (SegmentationMask) where all its objects have one, and ``keypoints`` where the file has any.
    Crowd regions are not part of the target. Annotations are validated when the file is read; what
    was repaired or dropped is logged once.

    Attributes:
        ids: image ids, sorted; position i is image i of this data set.
        categories: id -> name, in the order of the ids.
        class_names: names by label, index 0 the background.
        report: what the validation found.
        has_masks: whether any object has a mask.
        keypoint_count: keypoints per object; 0 for none.
        skeleton: their names and connections; None where they are not known.
    """

    def __init__(
        self,
        ann_file: str | Path | Mapping[str, Any],
        root: str | Path,
        remove_images_without_annotations: bool = False,
        *,
        require_masks: bool = False,
        min_visible_keypoints: int = 0,
        source: str = "",
    ) -> None:
        """Reads and validates the annotations.

        Args:
            ann_file: JSON file with ``images``, ``categories`` and ``annotations``; or its content
                as ``json.load`` gives it.
            root: directory of the images.
            remove_images_without_annotations: leave out images without objects to learn from: none
                at all, crowd regions only (maskrcnn-benchmark kept those), or only boxes of at most
                a pixel's width or height.
            require_masks: leave out objects without a mask, instead of giving images without masks.
            min_visible_keypoints: with ``remove_images_without_annotations``, also leave out images
                with fewer labelled keypoints (maskrcnn-benchmark: 10, for keypoint training), but
                none that has as many as one object can have.
            source: what to call the annotations in messages; by default the file.

        Raises:
            FileNotFoundError: the file or the directory does not exist.
            ValueError: the file is not such JSON or cannot be used (AnnotationError, which carries
                the report), for example because it names an image outside the directory; or masks
                are required and there is none.
        """
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"no image directory at {self.root}")
        in_memory = isinstance(ann_file, Mapping)
        self.source = source or ("annotations" if in_memory else str(ann_file))
        self.report = AnnotationReport(self.source)
        try:
            content = ann_file if in_memory else read_json(Path(ann_file))
            valid = validate_coco(content, self.report, self.root)
        except RecursionError as error:
            raise ValueError(f"{self.source} is nested too deeply for annotations") from error
        if require_masks:
            self._drop_without_masks(valid)
        self.report.log_once(_logger)
        self.categories = {category["id"]: category["name"] for category in valid.categories}
        self.class_names = ["__background__", *self.categories.values()]
        self.has_masks = any("segmentation" in a for v in valid.annotations.values() for a in v)
        self.keypoint_count = valid.keypoint_count
        self.skeleton = valid.skeleton
        images = valid.images
        enough = min(min_visible_keypoints, self.keypoint_count)
        if remove_images_without_annotations:
            images = [
                image
                for image in images
                if _has_objects(valid.annotations.get(image["id"], ()), enough)
            ]
            removed = len(valid.images) - len(images)
            if removed:
                _logger.info("%s: %d images without objects left out", self.source, removed)
        self._store(valid, images)

    def _store(self, valid: ValidContent, images: Sequence[dict[str, Any]]) -> None:
        self.ids = [image["id"] for image in images]
        self._categories = PackedRecords(valid.categories)
        self._images = PackedRecords(images)
        self._annotations = PackedRecords(valid.annotations.get(i, []) for i in self.ids)
        labels = enumerate(self.categories, start=1)
        self.json_category_id_to_contiguous_id = {category_id: i for i, category_id in labels}

    @property
    def contiguous_category_id_to_json_id(self) -> dict[int, int]:
        """Label -> category id."""
        return {label: i for i, label in self.json_category_id_to_contiguous_id.items()}

    @property
    def id_to_img_map(self) -> dict[int, int]:
        """Position -> image id."""
        return dict(enumerate(self.ids))

    @property
    def content(self) -> dict[str, Any]:
        """The validated annotations of all images of this data set, as COCO's JSON."""
        positions = range(len(self))
        return {
            "images": [self._images[i] for i in positions],
            "categories": [self._categories[i] for i in range(len(self._categories))],
            "annotations": [a for i in positions for a in self._annotations[i]],
        }

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[np.ndarray, BoxList, int]:
        return self.read_image(index), self.target(index), index

    def get_img_info(self, index: int) -> dict[str, Any]:
        """COCO's entry of the image: ``id``, ``file_name``, ``height``, ``width``."""
        return self._images[index]

    def annotations(self, index: int) -> list[dict[str, Any]]:
        """COCO's annotations of the image, validated, crowd regions included."""
        return self._annotations[index]

    def image_path(self, index: int) -> Path:
        """Where the image lies."""
        return self.root / self.get_img_info(index)["file_name"]

    def read_image(self, index: int) -> np.ndarray:
        """The image alone: (H, W, 3) uint8 RGB.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it cannot be read, or its size is not the one that the file states.
        """
        info = self.get_img_info(index)
        path = self.root / info["file_name"]
        image = read_image(path)
        height, width = image.shape[:2]
        check_image_size(path, (width, height), (info["width"], info["height"]), self.source)
        return image

    def target(self, index: int) -> BoxList:
        """The annotated objects of an image, without crowd regions."""
        info = self.get_img_info(index)
        return build_target(
            self._objects(index),
            (info["width"], info["height"]),
            self.json_category_id_to_contiguous_id,
            with_masks=self.has_masks,
            keypoint_count=self.keypoint_count,
            skeleton=self.skeleton,
        )

    def _objects(self, index: int) -> list[dict[str, Any]]:
        return [a for a in self._annotations[index] if not a["iscrowd"]]

    def _drop_without_masks(self, valid: ValidContent) -> None:
        objects = [a for v in valid.annotations.values() for a in v if not a["iscrowd"]]
        if objects and not any("segmentation" in a for a in objects):
            raise ValueError(
                f"{self.source}: no object has a mask, but the model needs masks; MODEL.MASK_ON "
                "False learns boxes alone"
            )
        for annotations in valid.annotations.values():
            kept = [a for a in annotations if a["iscrowd"] or "segmentation" in a]
            for annotation in annotations:
                if not annotation["iscrowd"] and "segmentation" not in annotation:
                    where = f"annotation {annotation['id']}"
                    self.report.add("dropped", "object without a mask, which is needed", where)
            annotations[:] = kept


def _has_objects(annotations: Sequence[Mapping[str, Any]], min_visible_keypoints: int) -> bool:
    """Whether there is something to learn from, by maskrcnn-benchmark's rules."""
    objects = [a for a in annotations if not a["iscrowd"]]
    if all(min(a["bbox"][2:]) <= _MIN_SIDE for a in objects):
        return False
    return sum(a.get("num_keypoints", 0) for a in objects) >= min_visible_keypoints
