"""Small files that a run leaves beside its results."""

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maskrcnn_lib.utils.comm import is_main_process


def mkdir(path: str | os.PathLike[str]) -> None:
    """Makes a directory and its parents; it may exist already."""
    Path(path).mkdir(parents=True, exist_ok=True)


def save_config(cfg: Any, path: str | os.PathLike[str]) -> None:
    """Writes the config as YAML; ``cfg`` is anything with ``dump()``. Rank 0 writes."""
    if is_main_process():
        Path(path).write_text(cfg.dump(), encoding="utf-8")


def save_labels(dataset_list: Iterable[Any], output_dir: str | os.PathLike[str]) -> None:
    """Writes the class names of all datasets to ``output_dir/labels.json``. Rank 0 writes.

    Args:
        dataset_list: datasets with an attribute ``categories``, ``{category id: class name}``;
            one that has none is named in a warning.
        output_dir: an existing directory.
    """
    if not is_main_process():
        return
    names: dict[int, str] = {}
    for dataset in dataset_list:
        if hasattr(dataset, "categories"):
            names.update(dataset.categories)
        else:
            logging.getLogger(__name__).warning(
                "%s has no attribute `categories`: labels.json lacks its class names",
                type(dataset).__name__,
            )
    if names:
        text = json.dumps(names, indent=2, ensure_ascii=False)
        (Path(output_dir) / "labels.json").write_text(text + "\n", encoding="utf-8")
