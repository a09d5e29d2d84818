"""What a config says beyond the defaults."""

from typing import Any

import yaml

from maskrcnn_lib.config.defaults import default_config
from maskrcnn_lib.config.node import CfgNode


def differences(cfg: CfgNode) -> str:
    """The keys of a config whose values are not the defaults, as YAML; "" if there are none."""
    defaults = default_config().flat()
    changed = {key: value for key, value in cfg.flat().items() if value != defaults[key]}
    if not changed:
        return ""
    return yaml.safe_dump(_nested(changed), sort_keys=False, default_flow_style=None)


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """``{"A.B": value}`` as ``{"A": {"B": value}}``, tuples as lists."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, last = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = list(value) if isinstance(value, tuple) else value
    return tree
