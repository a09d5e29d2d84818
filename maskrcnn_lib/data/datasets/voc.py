"""Pascal VOC's detection and segmentation challenges."""

from pathlib import Path
from typing import ClassVar

import torch

from maskrcnn_lib.data.converters.voc import CLASSES, convert_voc
from maskrcnn_lib.data.datasets.coco import COCODataset
from maskrcnn_lib.structures.bounding_box import BoxList


class PascalVOCDataset(COCODataset):
    """A directory in Pascal VOC's layout.

    As :class:`COCODataset`; targets also have the field ``difficult`` (N,) bool, and masks where
    the directory has ``SegmentationObject``.
    """

    CLASSES: ClassVar[tuple[str, ...]] = ("__background__", *CLASSES)
    evaluation_rules: ClassVar[str] = "voc"

    def __init__(
        self,
        data_dir: str | Path,
        split: str,
        use_difficult: bool = False,
        remove_images_without_annotations: bool = False,
        *,
        require_masks: bool = False,
    ) -> None:
        """Reads the XML files of a split.

        Args:
            data_dir: ``VOC2007``, ``VOC2012``, or a directory laid out like them.
            split: name of a list in ``ImageSets/Main`` or ``ImageSets/Segmentation``.
            use_difficult: keep objects marked as difficult.
            remove_images_without_annotations, require_masks: as in :class:`COCODataset`.

        Raises:
            FileNotFoundError: a file or directory does not exist.
            ValueError: a file cannot be read or used.
        """
        converted = convert_voc(data_dir, split, use_difficult=use_difficult)
        super().__init__(
            converted.content,
            converted.image_root,
            remove_images_without_annotations,
            require_masks=require_masks,
            source=f"{data_dir} ({split})",
        )

    def target(self, index: int) -> BoxList:
        """The annotated objects of an image."""
        target = super().target(index)
        difficult = [bool(entry["difficult"]) for entry in self._objects(index)]
        target.add_field("difficult", torch.tensor(difficult, dtype=torch.bool))
        return target
