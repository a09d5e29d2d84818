"""Labels of a model find the categories of a data set."""

import pytest

from maskrcnn_lib.checkpoint.class_names import (
    coco_category_names,
    coco_class_names,
    published_category_ids,
)
from maskrcnn_lib.evaluation.categories import match_categories


def test_coco_models_give_coco_ids_whatever_their_number_of_labels():
    contiguous = dict(
        zip(coco_class_names(), published_category_ids(coco_class_names()), strict=True)
    )
    sparse = dict(
        zip(coco_category_names(), published_category_ids(coco_category_names()), strict=True)
    )
    assert contiguous["person"] == sparse["person"] == 1
    assert contiguous["cat"] == sparse["cat"] == 17
    assert contiguous["toothbrush"] == sparse["toothbrush"] == 90


def test_other_models_give_their_labels():
    assert published_category_ids(["__background", "balloon", "kite"]) == [0, 1, 2]


def test_categories_are_matched_by_name():
    found = match_categories(
        ["__background", "cat", "dog", "unicorn"], {7: "dog", 3: "cat", 5: "cow"}
    )
    assert found == [-1, 3, 7, -1]


def test_unnamed_labels_follow_the_order_of_the_ids():
    assert match_categories(["__background", "class 1", "class 2"], {9: "b", 4: "a"}) == [-1, 4, 9]


def test_other_names_are_matched_by_order_with_a_warning(caplog):
    assert match_categories(["__background", "cat", "dog"], {9: "Hund", 4: "Katze"}) == [-1, 4, 9]
    assert "classes (cat, dog) are taken for the data set's (Katze, Hund)" in caplog.text


def test_classes_that_fit_in_no_way_are_an_error():
    with pytest.raises(ValueError, match="share no name"):
        match_categories(["__background", "class 1"], {9: "b", 4: "a"})
