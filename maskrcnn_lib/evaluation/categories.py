"""Which category of a data set each of a model's labels means."""

import logging
from collections.abc import Mapping, Sequence

logger = logging.getLogger(__name__)


def match_categories(class_names: Sequence[str], categories: Mapping[int, str]) -> list[int]:
    """Category id of the data set per label, matched by name.

    Args:
        class_names: the model's, index 0 the background.
        categories: id -> name of the data set.

    Returns:
        ``len(class_names)`` ids; -1 for the background and for classes that the data set does not
        have. Where no name of the model is known to the data set but the counts agree, labels
        are taken in the order of the ids, as maskrcnn-benchmark numbers them; a warning says so
        where the model's classes have names.

    Raises:
        ValueError: neither names nor counts fit.
    """
    by_name = {name: category_id for category_id, name in categories.items()}
    matched = [-1, *(by_name.get(name, -1) for name in class_names[1:])]
    if any(category_id >= 0 for category_id in matched):
        return matched
    if len(class_names) - 1 == len(categories):
        if any(name != f"class {label}" for label, name in enumerate(class_names[1:], start=1)):
            logger.warning(
                "no name is the same: the model's classes (%s) are taken for the data set's (%s) "
                "in their order",
                _some(class_names[1:]),
                _some([categories[i] for i in sorted(categories)]),
            )
        return [-1, *sorted(categories)]
    raise ValueError(
        f"the model's {len(class_names) - 1} classes ({_some(class_names[1:])}) share no name with "
        f"the data set's {len(categories)} ({_some(list(by_name))})"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])])
