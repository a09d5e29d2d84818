"""``maskrcnn checks``: the environment, and which compiled libraries are in use."""

import argparse

from maskrcnn_lib.layers._library import LibraryStatus, load_status
from maskrcnn_lib.utils.collect_env import collect_env_info


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options."""
    parser.add_argument(
        "--require-ops",
        action="store_true",
        help="exit with 1 where the compiled operators are not in use",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the report; returns the exit code."""
    print(checks())
    return int(args.require_ops and not load_status()["_C"].loaded)


def checks() -> str:
    """Returns the report: versions, devices, compiled libraries, threads, settings."""
    return collect_env_info({name: _describe(status) for name, status in load_status().items()})


def _describe(status: LibraryStatus) -> str:
    return f"loaded from {status.path}" if status.loaded else f"not in use: {status.reason}"
