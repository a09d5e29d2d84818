"""The annotations of any data set in COCO's form, so that COCO's scores can be had of all."""

from inspect import getattr_static
from typing import Any

from maskrcnn_lib.evaluation.predicted_dataset import as_annotation
from maskrcnn_lib.structures.bounding_box import BoxList


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
        annotations += _annotations(target, index)
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
    if _has_content(dataset):
        return dataset.annotations(index)
    return _annotations(_target(dataset, index), index)


def _target(dataset: Any, index: int) -> BoxList:
    return dataset.target(index) if hasattr(dataset, "target") else dataset[index][1]


def _has_content(dataset: Any) -> bool:
    """Whether a data set has ``content``, without making it: that reads all annotations."""
    dataset = getattr(dataset, "dataset", dataset)  # inside of what gives it proposals
    return getattr_static(dataset, "content", None) is not None


def _annotations(target: BoxList, image_id: int) -> list[dict[str, Any]]:
    """One entry per object, with its label as ``category_id``; masks are drawn one by one."""
    return [
        as_annotation(entry)
        for index in range(len(target))
        for entry in target[index].to_coco(image_id=image_id)
    ]
