"""Which category of a data set each of a model's labels means."""

from collections.abc import Mapping, Sequence


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
