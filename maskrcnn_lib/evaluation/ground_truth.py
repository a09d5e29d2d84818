"""The annotations of any data set in COCO's form, so that COCO's scores can be had of all."""

from inspect import getattr_static
from typing import Any

import numpy as np

from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.segmentation_mask import SegmentationMask


def coco_content(dataset: Any) -> dict[str, Any]:
    """``images``, ``categories`` and ``annotations`` of a data set.

    Args:
        dataset: one that has them as ``content`` (and those of one image as ``annotations(i)``);
            or any object with ``__len__``, ``get_img_info(i)`` and ``target(i)`` or
            ``__getitem__(i)``, whose images get their positions as ids, and whose categories are
            its ``categories`` (id -> name, in the order of the labels) or the labels themselves.
    """
    if _has_content(dataset):
        return dataset.content
    images, annotations = [], []
    for index in range(len(dataset)):
        target = _target(dataset, index)
        width, height = target.size
        info = dict(dataset.get_img_info(index)) if hasattr(dataset, "get_img_info") else {}
        name = str(info.get("file_name", index))
        images.append({"id": index, "width": width, "height": height, "file_name": name})
        annotations += [{"image_id": index, **entry} for entry in _annotations(target)]
    categories = list(getattr(dataset, "categories", {}).items())
    if not categories:
        most = max((entry["category_id"] for entry in annotations), default=1)
        categories = [(label, f"class {label}") for label in range(1, most + 1)]
    ids = [category_id for category_id, _ in categories]
    for number, entry in enumerate(annotations, start=1):
        entry |= {"id": number, "category_id": ids[entry["category_id"] - 1]}
    return {
        "images": images,
        "categories": [{"id": number, "name": name} for number, name in categories],
        "annotations": annotations,
    }


def image_id(dataset: Any, index: int) -> int:
    """Id in ``coco_content(dataset)`` of the image at a position."""
    return dataset.ids[index] if _has_content(dataset) else index


def image_annotations(dataset: Any, index: int) -> list[dict[str, Any]]:
    """COCO's annotations of the image at a position, crowd regions included.

    Those of a data set that has no ``annotations(index)`` have the label as ``category_id``.
    """
    return (
        dataset.annotations(index)
        if _has_content(dataset)
        else _annotations(_target(dataset, index))
    )


def _target(dataset: Any, index: int) -> BoxList:
    return dataset.target(index) if hasattr(dataset, "target") else dataset[index][1]


def _has_content(dataset: Any) -> bool:
    """Whether a data set has ``content``, without making it: that reads all annotations."""
    dataset = getattr(dataset, "dataset", dataset)  # inside of what gives it proposals
    return getattr_static(dataset, "content", None) is not None


def _annotations(target: BoxList) -> list[dict[str, Any]]:
    """One entry per object; ``category_id`` is the label still."""
    boxes = target.convert("xywh").bbox.tolist()
    labels = target.get_field("labels").tolist()
    entries = [
        {"bbox": box, "area": box[2] * box[3], "category_id": label, "iscrowd": 0}
        for box, label in zip(boxes, labels, strict=True)
    ]
    if target.has_field("masks"):
        for entry, mask in zip(entries, target.get_field("masks"), strict=True):
            entry["segmentation"], entry["area"] = _segmentation(mask)
    if target.has_field("keypoints"):
        points = target.get_field("keypoints").keypoints
        for entry, numbers in zip(entries, points.flatten(1).tolist(), strict=True):
            entry["keypoints"] = numbers
            entry["num_keypoints"] = sum(visibility > 0 for visibility in numbers[2::3])
    return entries


def _segmentation(mask: SegmentationMask) -> tuple[dict[str, Any], float]:
    """Run lengths and area of one object."""
    from pycocotools import mask as coder

    bitmap = mask.get_mask_tensor().reshape(mask.size[1], mask.size[0]).numpy()
    rle = coder.encode(np.asfortranarray(bitmap.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}, float(bitmap.sum())
