"""The console script ``maskrcnn``; ``python -m maskrcnn_lib.tools.cli`` is the same."""

import argparse
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import NamedTuple, NoReturn

from maskrcnn_lib import __version__
from maskrcnn_lib.tools.examples import EXAMPLES
from maskrcnn_lib.tools.exit_codes import USAGE_ERROR, exit_code


class Command(NamedTuple):
    """A sub-command.

    Attributes:
        module: has ``add_arguments(parser)`` and ``run(args)``; imported only when it is chosen.
        summary: what it does.
        takes_keys: whether config keys and values may end its line; ``args.opts`` holds them.
    """

    module: str
    summary: str
    takes_keys: bool = True


COMMANDS = {
    "predict": Command("maskrcnn_lib.tools.predict", "find objects in images and draw them"),
    "video": Command("maskrcnn_lib.tools.video", "find objects in a video and draw them"),
    "test": Command("maskrcnn_lib.tools.test_net", "evaluate a model on a data set"),
    "eval": Command("maskrcnn_lib.tools.eval_results", "score results that were written before"),
    "show": Command(
        "maskrcnn_lib.tools.show_results", "draw annotated objects beside what was found"
    ),
    "report": Command(
        "maskrcnn_lib.tools.report", "an evaluation as one HTML page: tables, errors, images"
    ),
    "train": Command("maskrcnn_lib.tools.train_net", "train a model"),
    "plot": Command(
        "maskrcnn_lib.tools.plot",
        "curves of trainings in one picture, or how long their iterations took",
        takes_keys=False,
    ),
    "flops": Command(
        "maskrcnn_lib.tools.flops", "operations and parameters of a model, part by part"
    ),
    "benchmark": Command(
        "maskrcnn_lib.tools.benchmark", "speed and memory of a model on this machine"
    ),
    "proposals": Command(
        "maskrcnn_lib.tools.proposals", "write a model's proposals, for Fast R-CNN"
    ),
    "check-dataset": Command("maskrcnn_lib.tools.check_dataset", "look for faults in a data set"),
    "browse": Command(
        "maskrcnn_lib.tools.browse", "draw training images with their objects, as a model sees them"
    ),
    "anchors": Command(
        "maskrcnn_lib.tools.anchors", "anchor sizes and aspect ratios that fit a data set"
    ),
    "convert": Command(
        "maskrcnn_lib.tools.convert", "bring annotations into COCO's format", takes_keys=False
    ),
    "convert-weights": Command(
        "maskrcnn_lib.tools.convert_weights", "bring weights into the format of another toolbox"
    ),
    "export": Command(
        "maskrcnn_lib.tools.export", "write a detector as an ONNX or torch.export file"
    ),
    "config": Command("maskrcnn_lib.tools.print_config", "print a config as it resolves"),
    "models": Command(
        "maskrcnn_lib.tools.models",
        "list the models, their published AP and weights",
        takes_keys=False,
    ),
    "completion": Command(
        "maskrcnn_lib.tools.completion",
        "write what makes bash, zsh or fish complete these commands",
        takes_keys=False,
    ),
    "checks": Command(
        "maskrcnn_lib.tools.checks",
        "show the environment and the compiled libraries",
        takes_keys=False,
    ),
}

_KEYS_FOLLOW = "Config keys and values may follow at the end: KEY VALUE KEY VALUE ..."

# A config key on the command line: capitals, with or without sections (DTYPE, MODEL.DEVICE).
_CONFIG_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one sub-command.

    Args:
        argv: the arguments after the program's name; default: those of this process.

    Returns:
        the exit code: the sub-command's own, 1 for an error in what the user gave, 2 for wrong
        usage, 130 after Ctrl-C (see :mod:`maskrcnn_lib.tools.exit_codes`).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else USAGE_ERROR
    if arguments[0] == "--version":
        print(f"maskrcnn_lib {__version__}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(COMMANDS)}"
        print(f"maskrcnn: there is no sub-command {name!r}; {advice}", file=sys.stderr)
        return USAGE_ERROR
    return _run(name, arguments[1:])


class _Parser(argparse.ArgumentParser):
    """Names the option that an unknown one resembles."""

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: .*?(--[\w-]+)", message)
        near = get_close_matches(unknown[1], self._option_string_actions, n=1) if unknown else []
        super().error(message + (f"; did you mean {near[0]}?" if near else ""))


def command_parser(name: str) -> argparse.ArgumentParser:
    """What reads a sub-command's line, without the config keys at its end."""
    parser = _Parser(
        prog=f"maskrcnn {name}",
        epilog=_epilog(name),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_command_arguments(name, parser)
    return parser


def add_command_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Adds a sub-command's options and description to ``parser``."""
    module = import_module(COMMANDS[name].module)
    paragraphs = (module.__doc__ or "").replace("``", "`").split("\n\n")
    parser.description = "\n\n".join(textwrap.fill(text, _columns()) for text in paragraphs)
    module.add_arguments(parser)


def _epilog(name: str) -> str:
    """Examples, one to a line so that they can be copied."""
    examples = [f"  {example}" for example in EXAMPLES.get(name, ())]
    text = "\n".join(["examples:", *examples]) if examples else ""
    keys = textwrap.fill(_KEYS_FOLLOW, _columns()) if COMMANDS[name].takes_keys else ""
    return "\n\n".join(part for part in (text, keys) if part)


def _columns() -> int:
    return shutil.get_terminal_size().columns - 2  # argparse's own width


def _run(name: str, arguments: Sequence[str]) -> int:
    command, parser = COMMANDS[name], command_parser(name)
    flags = [
        flag for action in parser._actions if action.nargs == 0 for flag in action.option_strings
    ]
    options, overrides = list(arguments), []
    if command.takes_keys:
        options, overrides = split_overrides(arguments, flags)
    args = parser.parse_args(options, argparse.Namespace(opts=overrides))
    _check_keys(parser, overrides)
    return exit_code(f"maskrcnn {name}", lambda: import_module(command.module).run(args))


def _check_keys(parser: argparse.ArgumentParser, overrides: Sequence[str]) -> None:
    """Ends the process as for an unknown option where a key or the type of a value is wrong."""
    from maskrcnn_lib.config.defaults import default_config

    try:
        default_config().merge_from_list(overrides)
    except (KeyError, ValueError) as error:
        parser.error(str(error.args[0]))


def split_overrides(
    arguments: Sequence[str], flags: Collection[str] = ()
) -> tuple[list[str], list[str]]:
    """Separates the config keys and values that end a command line from what stands before.

    They begin at the first argument that is written like a config key, follows no option (whose
    value it would be) and names no existing file.

    Args:
        flags: options that take no value.

    Returns:
        the arguments before, and ``[KEY, VALUE, KEY, VALUE, ...]``.
    """
    for index, argument in enumerate(arguments):
        before = arguments[index - 1] if index else ""
        follows_option = before.startswith("--") and before not in flags
        if _CONFIG_KEY.fullmatch(argument) and not follows_option and not os.path.exists(argument):
            return list(arguments[:index]), list(arguments[index:])
    return list(arguments), []


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text, _) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: maskrcnn COMMAND ...",
            "",
            "Object detection, instance segmentation and key points.",
            "",
            "commands:",
            *lines,
            "",
            "`maskrcnn COMMAND --help` shows its options; `maskrcnn --version` shows the version.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
