"""Data sets: from files to images and their targets."""

from maskrcnn_lib.data.datasets.coco import COCODataset

__all__ = ["COCODataset"]
