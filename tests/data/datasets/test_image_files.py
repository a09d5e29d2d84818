"""Missing images are found before the work begins."""

import json

import pytest

from maskrcnn_lib.data.datasets import COCODataset, ConcatDataset
from maskrcnn_lib.data.datasets.image_files import check_images


def _dataset(folder, names):
    """A data set without objects, whose images need only be there."""
    images = [{"id": i, "file_name": n, "width": 9, "height": 9} for i, n in enumerate(names)]
    content = {"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": []}
    path = folder / "a.json"
    path.write_text(json.dumps(content))
    return COCODataset(path, folder)


def test_missing_images_are_counted_and_the_first_is_named(tmp_path):
    (tmp_path / "there.png").touch()
    dataset = _dataset(tmp_path, ["there.png", "gone.png", "other/gone.png"])
    with pytest.raises(FileNotFoundError, match=r"2 of 3 images of pets .* such as .*gone\.png"):
        check_images(dataset, "pets")
    check_images(dataset, "pets", [0])
    with pytest.raises(FileNotFoundError, match=r"4 of 6 images"):
        check_images(ConcatDataset([dataset, dataset]), "pets")


def test_data_set_without_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match="data set pets has no image"):
        check_images(_dataset(tmp_path, []), "pets")


def test_data_set_of_a_user_need_not_have_files():
    check_images([None, None], "pets")
