"""``maskrcnn config``: a config as it resolves, with all that it inherits and all defaults.

The output is itself a config: ``maskrcnn config NAME > mine.yaml``, then
``--config-file mine.yaml``.
"""

import argparse

from maskrcnn_lib.config import get_cfg
from maskrcnn_lib.config.differences import differences
from maskrcnn_lib.config.reference import config_reference


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options."""
    parser.add_argument(
        "name", nargs="?", help="config name or YAML file (default: the defaults alone)"
    )
    parser.add_argument(
        "--reference", action="store_true", help="every key, its default and what it means"
    )
    parser.add_argument(
        "--diff", action="store_true", help="only the keys that differ from the defaults"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the config; returns the exit code."""
    if args.reference:
        print(config_reference(), end="")
        return 0
    cfg = get_cfg(args.name, args.opts)
    print(differences(cfg) if args.diff else cfg.dump(), end="")
    return 0
