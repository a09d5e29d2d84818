"""What somebody who has nothing but an exported file needs to know to use it."""

from typing import Any

from maskrcnn_lib import __version__
from maskrcnn_lib.engine.detector import Detector


def describe(detector: Detector) -> dict[str, Any]:
    """Describes the input and output of a detector's file, in values that JSON knows.

    Returns:
        ``producer``; ``class_names``, index 0 being the background; ``image``: what the input
        holds and how an image is brought to the network's scale; ``normalisation``, which happens
        inside the file; ``masks``: how probabilities become pixels; with a keypoint head that knows
        them ``keypoints``: names and connections. docs/export.md explains each.
    """
    transform, dialect = detector.transform, detector.dialect
    description = {
        "producer": f"maskrcnn_lib {__version__}",
        "class_names": list(detector.class_names),
        "image": {
            "layout": "CHW",
            "channels": "RGB",
            "range": [0, 255],
            "short_side": transform.min_size,
            "longest_side": transform.max_size,
            "size_rule": transform.output_size,
            "resize": transform.resize,
        },
        "normalisation": {
            "channels": "BGR" if transform.to_bgr255 else "RGB",
            "range": [0, 255] if transform.to_bgr255 else [0, 1],
            "mean": list(transform.mean),
            "std": list(transform.std),
        },
        "masks": {
            "threshold": 0.5,
            "paste": dialect.paste,
            "box_end_offset": dialect.box_end_offset,
        },
    }
    skeleton = getattr(getattr(detector.model.roi_heads, "keypoint", None), "skeleton", None)
    if skeleton is not None:
        description["keypoints"] = {
            "names": list(skeleton.names),
            "connections": [list(pair) for pair in skeleton.connections],
        }
    return description
