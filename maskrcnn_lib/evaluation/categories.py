"""Which category of a data set each of a model's labels means."""

from collections.abc import Mapping, Sequence

# The 2014 and 2017 detection challenges use 80 of the ids 1..90.
COCO_CATEGORY_IDS = tuple(
    i for i in range(1, 91) if i not in {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
)


def published_category_ids(class_names: Sequence[str]) -> list[int]:
    """Category id per label where there is no data set to ask.

    Models with COCO's 80 classes give COCO's ids; for all others the id is the label itself.

    Args:
        class_names: index 0 the background.
    """
    count = len(class_names)
    is_coco = count == 81 and class_names[1] == "person" and class_names[80] == "toothbrush"
    return [0, *COCO_CATEGORY_IDS] if is_coco else list(range(count))


def match_categories(class_names: Sequence[str], categories: Mapping[int, str]) -> list[int]:
    """Category id of the data set per label, matched by name.

    Args:
        class_names: the model's, index 0 the background.
        categories: id -> name of the data set.

    Returns:
        ``len(class_names)`` ids; -1 for the background and for classes that the data set does not
        have. Where no name of the model is known to the data set but the counts agree, labels
        are taken in the order of the ids, as maskrcnn-benchmark numbers them.

    Raises:
        ValueError: neither names nor counts fit.
    """
    by_name = {name: category_id for category_id, name in categories.items()}
    matched = [-1, *(by_name.get(name, -1) for name in class_names[1:])]
    if any(category_id >= 0 for category_id in matched):
        return matched
    if len(class_names) - 1 == len(categories):
        return [-1, *sorted(categories)]
    raise ValueError(
        f"the model's {len(class_names) - 1} classes ({', '.join(class_names[1:4])}, ...) share no "
        f"name with the data set's {len(categories)} ({', '.join(list(by_name)[:3])}, ...)"
    )
