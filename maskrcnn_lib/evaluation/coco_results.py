"""Detections in the COCO result format.

Masks go from M x M probabilities straight to run lengths; no image-sized bitmap is made.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from maskrcnn_lib.config.dialects import DEFAULT_PASTE, PasteRule
from maskrcnn_lib.structures.bounding_box import BoxList

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
        detections: in pixels of the original image, with fields ``scores`` and ``labels``.
        image_id, category_ids, mask_threshold: as of :meth:`BoxList.to_coco`; for the ids see
            :func:`match_categories`.
        paste: how masks are pasted, the detector's ``paste_rule``.

    Returns:
        What :meth:`BoxList.to_coco` returns, with ``score``.
    """
    return detections.to_coco(
        image_id=image_id, category_ids=category_ids, mask_threshold=mask_threshold, paste=paste
    )


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
