"""Names of the COCO classes, for checkpoints that were trained on COCO and do not carry names.

The names and their category ids (1 to 90, ten of them unused) are those of the COCO dataset.
"""

from collections.abc import Sequence

BACKGROUND = "__background"
UNUSED = "N/A"

COCO_CLASSES: tuple[str, ...] = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog"),
    *("horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella"),
    *("handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite"),
    *("baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle"),
    *("wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich"),
    *("orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote"),
    *("keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book"),
    *("clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)

_UNUSED_CATEGORY_IDS = frozenset((12, 26, 29, 30, 45, 66, 68, 69, 71, 83))

COCO_CATEGORY_IDS: tuple[int, ...] = tuple(
    category for category in range(1, 91) if category not in _UNUSED_CATEGORY_IDS
)
"""Category id of each of the 80 classes, in the order of ``COCO_CLASSES``."""


def coco_class_names() -> tuple[str, ...]:
    """Returns the 81 names of a model whose labels 1..80 are the COCO classes in id order."""
    return (BACKGROUND, *COCO_CLASSES)


def coco_category_names() -> tuple[str, ...]:
    """Returns the 91 names of a model whose labels are COCO category ids, "N/A" for unused ids."""
    by_id = dict(zip(COCO_CATEGORY_IDS, COCO_CLASSES, strict=True))
    return (BACKGROUND, *(by_id.get(category, UNUSED) for category in range(1, 91)))


def published_category_ids(class_names: Sequence[str]) -> list[int]:
    """Returns the category id per label where there is no data set to ask.

    Models with COCO's 80 classes give COCO's ids; for all others the id is the label itself, which
    is COCO's id for models with 91 labels, too.

    Args:
        class_names: index 0 the background.
    """
    if tuple(class_names[1:]) == COCO_CLASSES:
        return [0, *COCO_CATEGORY_IDS]
    return list(range(len(class_names)))
