"""Whether the images of a data set are there."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def check_images(dataset: Any, name: str, images: Sequence[int] | None = None) -> None:
    """Finds out before hours of work whether there are images, by listing their directories.

    Data sets of users' own are checked where they have ``image_path(index)``.

    Args:
        name: of the data set, for messages.
        images: positions in the data set; by default all.

    Raises:
        ValueError: the data set holds no image.
        FileNotFoundError: images are missing; the message counts them and names the first.
    """
    if not len(dataset):
        raise ValueError(f"data set {name} has no image")
    paths = [_image_path(dataset, i) for i in (range(len(dataset)) if images is None else images)]
    folders = {path.parent for path in paths if path is not None}
    listed = {f: frozenset(os.listdir(f)) if f.is_dir() else frozenset() for f in folders}
    # a file system that tells no case apart has more names than it lists
    missing = [p for p in paths if p and p.name not in listed[p.parent] and not p.exists()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(paths)} images of {name} are missing, such as {missing[0]}"
        )


def _image_path(dataset: Any, index: int) -> Path | None:
    if hasattr(dataset, "locate"):  # of several
        part, position = dataset.locate(index)
        return _image_path(dataset.datasets[part], position)
    return dataset.image_path(index) if hasattr(dataset, "image_path") else None
