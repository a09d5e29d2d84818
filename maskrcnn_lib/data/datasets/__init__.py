"""Data sets: from files to images and their targets.

A data set is any object with ``__len__``, ``__getitem__(i) -> (image, BoxList, i)`` (the image a
PIL image or an (H, W, 3) uint8 RGB array) and ``get_img_info(i)`` (a dict with ``height`` and
``width``). ``categories`` (id -> name, in the order of the labels 1..K) is optional.
"""

from maskrcnn_lib.data.datasets.build import (
    build_dataset,
    build_train_dataset,
    check_num_classes,
    write_reports,
)
from maskrcnn_lib.data.datasets.cityscapes import CityScapesDataset
from maskrcnn_lib.data.datasets.coco import COCODataset
from maskrcnn_lib.data.datasets.concat import ConcatDataset
from maskrcnn_lib.data.datasets.voc import PascalVOCDataset

__all__ = [
    "COCODataset",
    "CityScapesDataset",
    "ConcatDataset",
    "PascalVOCDataset",
    "build_dataset",
    "build_train_dataset",
    "check_num_classes",
    "write_reports",
]
