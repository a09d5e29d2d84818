"""Detections in the COCO result format.

Masks go from M x M probabilities straight to run lengths; no image-sized bitmap is made.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from maskrcnn_lib.config.dialects import DEFAULT_PASTE, PasteRule
from maskrcnn_lib.layers import masks_to_rle
from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.structures.keypoint import Keypoints

# What a result of each kind has to say.
_RESULT_KEYS = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}


def coco_results(
    detections: BoxList,
    *,
    image_id: int,
    category_ids: Sequence[int],
    mask_threshold: float = 0.5,
    paste: PasteRule = DEFAULT_PASTE,
) -> list[dict[str, Any]]:
    """Results of one image as COCO's tools read them.

    Args:
        detections: in pixels of the original image, with fields ``scores``, ``labels`` and
            optionally ``mask`` ((N, 1, M, M) probabilities inside the boxes) and ``keypoints``
            (Keypoints, or an (N, K, 3) tensor: x, y and a third number that is passed on), in the
            coordinates of the data sets' own keypoints: COCO counts the centre of the first pixel
            as 0.
        image_id: of the image in the data set.
        category_ids: per label, index 0 the background; see :func:`match_categories`. Detections
            of labels whose category id is -1 are left out.
        mask_threshold: a pixel belongs to the object above this probability.
        paste: how masks are pasted, the detector's ``paste_rule``.

    Returns:
        One dict per detection: ``image_id``, ``category_id``, ``bbox`` (x, y, width, height),
        ``score`` and, with masks, ``segmentation`` (compressed RLE whose ``counts`` is a str), and
        ``mask_score`` where the field ``mask_scores`` says how good the masks are;
        with keypoints, ``keypoints`` (3 K numbers).
    """
    labels = detections.get_field("labels").tolist()
    kept = [i for i, label in enumerate(labels) if category_ids[label] >= 0]
    detections = detections[kept]
    boxes = detections.convert("xywh").bbox.tolist()
    scores = detections.get_field("scores").tolist()
    results = [
        {"image_id": image_id, "category_id": category_ids[labels[i]], "bbox": box, "score": score}
        for i, box, score in zip(kept, boxes, scores, strict=True)
    ]
    if detections.has_field("mask"):
        width, height = detections.size
        rles = masks_to_rle(
            detections.get_field("mask"),
            paste.boxes(detections.convert("xyxy").bbox),
            (height, width),
            mask_threshold,
            aligned=paste.aligned,
        )
        for result, rle in zip(results, rles, strict=True):
            result["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode("ascii")}
    if detections.has_field("mask_scores"):
        for result, score in zip(
            results, detections.get_field("mask_scores").tolist(), strict=True
        ):
            result["mask_score"] = score
    if detections.has_field("keypoints"):
        points = detections.get_field("keypoints")
        points = points.keypoints if isinstance(points, Keypoints) else points
        for result, numbers in zip(results, points.flatten(1).tolist(), strict=True):
            result["keypoints"] = numbers
    return results


def check_results(
    results: Sequence[Mapping[str, Any]], kind: str, image_ids: Collection[int]
) -> None:
    """Raises ValueError that names a result which lacks a key or is of none of the images.

    Args:
        results: COCO results.
        kind: "bbox", "segm" or "keypoints".
        image_ids: of the data set; a set or a dict.
    """
    needed = ("image_id", "category_id", "score", _RESULT_KEYS[kind])
    for index, result in enumerate(results):
        missing = [key for key in needed if key not in result]
        if missing:
            raise ValueError(f"result {index} lacks {', '.join(missing)}")
        if result["image_id"] not in image_ids:
            raise ValueError(
                f"result {index} is of image {result['image_id']}, which the data set does not have"
            )
