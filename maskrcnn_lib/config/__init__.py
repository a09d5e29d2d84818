"""What can be said in YAML, and the tree that holds it.

``cfg`` is the global tree that maskrcnn-benchmark's scripts merge into and freeze. New code takes a
fresh one from ``get_cfg``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn_lib.config.defaults import default_config
from maskrcnn_lib.config.files import config_path, list_configs
from maskrcnn_lib.config.node import CfgNode
from maskrcnn_lib.config.validation import validate

__all__ = ["CfgNode", "cfg", "config_path", "get_cfg", "list_configs", "validate"]

cfg = default_config()


def get_cfg(name_or_path: str | Path | None = None, overrides: Sequence[Any] = ()) -> CfgNode:
    """A fresh, resolved and checked config that is not frozen.

    Args:
        name_or_path: config name (see ``list_configs``) or YAML file; None: the defaults.
        overrides: ``[KEY, value, KEY, value, ...]``, applied last.

    Raises:
        FileNotFoundError: no such file or name; the nearest names are given.
        KeyError: an unknown key; the nearest keys are given.
        ValueError: a value of the wrong type, or values that contradict each other.
    """
    fresh = default_config()
    if name_or_path is not None:
        fresh.merge_from_file(name_or_path)
    fresh.merge_from_list(list(overrides))
    validate(fresh)
    return fresh
