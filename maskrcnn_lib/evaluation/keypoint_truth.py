"""What COCO's keypoint score needs beside the keypoints: counts of labelled points, and sigmas."""

import logging
from collections.abc import Sequence
from typing import Any

logger = logging.getLogger(__name__)

# Of COCO's 17 points of a person, in the order of PersonKeypoints.NAMES (cocodataset.org,
# "Keypoint Evaluation"): the spread of annotators' clicks, relative to the object's size.
PERSON_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072),
    *(0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
)
# For points that nobody measured: in the middle of COCO's.
_UNKNOWN_SIGMA = 0.07
_NUMBERS_PER_POINT = 3


def complete_keypoints(content: dict[str, Any]) -> int:
    """Gives all annotations keypoints, those without any points that are not labelled.

    The packages fail where an object has no ``keypoints``; objects without labelled points count
    for nothing.

    Args:
        content: images, annotations and categories; its annotations are changed.

    Returns:
        The number of keypoints per object; 0 where no object has any.

    Raises:
        ValueError: objects have different numbers of keypoints.
    """
    annotations = content["annotations"]
    lengths = {len(entry["keypoints"]) for entry in annotations if "keypoints" in entry}
    if len(lengths) > 1:
        counts = sorted(length // _NUMBERS_PER_POINT for length in lengths)
        raise ValueError(f"objects of one data set have different numbers of keypoints: {counts}")
    length = lengths.pop() if lengths else 0
    for entry in annotations:
        points = entry.setdefault("keypoints", [0] * length)
        entry.setdefault("num_keypoints", sum(v > 0 for v in points[2::_NUMBERS_PER_POINT]))
    return length // _NUMBERS_PER_POINT


def check_sigmas(sigmas: Sequence[float], count: int) -> tuple[float, ...]:
    """The sigmas of ``count`` keypoints: those given, COCO's for 17 points, else one for all.

    Raises:
        ValueError: another number than ``count`` was given, or one that is not positive.
    """
    if sigmas:
        if (count and len(sigmas) != count) or min(sigmas) <= 0:
            raise ValueError(
                f"one positive sigma for each of {count} keypoints expected "
                f"(TEST.KEYPOINT_OKS_SIGMAS), got {list(sigmas)}"
            )
        return tuple(sigmas)
    if count in (0, len(PERSON_SIGMAS)):
        return PERSON_SIGMAS
    logger.warning(
        "no sigmas are known for %d keypoints: all count as %s of the object's size; "
        "TEST.KEYPOINT_OKS_SIGMAS sets them",
        count,
        _UNKNOWN_SIGMA,
    )
    return (_UNKNOWN_SIGMA,) * count
