"""What COCO's results have to say; ``BoxList.to_coco`` makes them."""

import math
from collections.abc import Collection, Mapping, Sequence
from numbers import Real
from typing import Any

# What a result of each kind has to say.
_RESULT_KEYS = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}


def check_results(
    results: Sequence[Mapping[str, Any]], kind: str, image_ids: Collection[int]
) -> None:
    """Raises ValueError that names a wrong result.

    One that lacks a key, is of none of the images, or has a score that is no finite number.

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
        if not isinstance(result["score"], Real) or not math.isfinite(result["score"]):
            raise ValueError(f"score of result {index} is no finite number: {result['score']!r}")
        if result["image_id"] not in image_ids:
            raise ValueError(
                f"result {index} is of image {result['image_id']}, which the data set does not have"
            )
