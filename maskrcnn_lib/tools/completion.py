"""``maskrcnn completion``: a script with which a shell completes commands, options and names.

Put it where the shell looks for such files. It knows the commands, options, models and config keys
of the version that wrote it. Needs the package shtab.
"""

import argparse
from types import ModuleType

_SHELLS = ("bash", "zsh", "fish")
# Options whose value is the name of a config.
_CONFIGS = ("model", "config_file", "config", "name")
_DIRECTORIES = ("DIR",)
_FILES = ("F", "J", "W", "IN", "OUT", "SRC", "JSON", "FILE", "PATH", "IMAGE", "IMAGE|DIR|GLOB")
_FILES += ("RESULTS", "RUN", "CSV", "HTML", "VIDEO")


def completion_script(shell: str) -> str:
    """The script for ``bash``, ``zsh`` or ``fish``.

    Raises:
        ModuleNotFoundError: shtab is not installed; says how to get it.
    """
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "completion is written by the package shtab: pip install maskrcnn_lib[completion]"
        ) from error
    return shtab.complete(_whole_parser(shtab), shell)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options."""
    parser.add_argument("shell", choices=_SHELLS, help="which one")


def run(args: argparse.Namespace) -> int:
    """Prints the script; returns 0."""
    print(completion_script(args.shell))
    return 0


def _whole_parser(shtab: ModuleType) -> argparse.ArgumentParser:
    """One parser with all sub-commands, for shtab to read, and never to parse with.

    Its values have choices that the commands do not insist on.
    """
    from maskrcnn_lib.config import get_cfg, list_configs
    from maskrcnn_lib.tools.cli import COMMANDS, add_command_arguments

    parser = argparse.ArgumentParser(prog="maskrcnn")
    parser.add_argument("--version", action="version", version="")
    places = parser.add_subparsers()
    names, keys = list_configs(), list(get_cfg().flat())
    for command, (_, summary, takes_keys) in COMMANDS.items():
        place = places.add_parser(command, help=summary)
        add_command_arguments(command, place)
        for action in place._actions:
            if action.dest in _CONFIGS:
                action.choices = names
            elif action.metavar in _DIRECTORIES:
                action.complete = shtab.DIRECTORY
            elif action.metavar in _FILES:
                action.complete = shtab.FILE
        if takes_keys:
            place.add_argument("keys", nargs="*", choices=keys, metavar="KEY VALUE")
    return parser
