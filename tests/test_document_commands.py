"""The commands of the documents: all are understood as they stand, and those that can be are run.

Blocks marked ``bash`` need no network; in blocks marked ``sh`` something does, or a GPU.
"""

import re
from importlib import import_module

import pytest

from maskrcnn_lib.config.defaults import default_config
from maskrcnn_lib.tools import cli
from maskrcnn_lib.tools.examples import EXAMPLES

from .documents import (
    BLOCK,
    DOCUMENTS,
    KEY,
    ROOT,
    block_lines,
    document_name,
    inline_commands,
    words_of,
)

pytestmark = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="not a checkout")

NAME = re.compile(r"maskrcnn_lib(\.\w+)+")
# Programs that lines of the documents may call beside ours; they are not run.
OTHER_PROGRAMS = {"pip", "export", "curl", "unzip", "apt", "eval"}


def parsed(words):
    """The arguments of ``maskrcnn ...``; exits where they are not understood."""
    _, name, *rest = words
    assert name in cli.COMMANDS, f"there is no sub-command {name}"
    parser, overrides = cli.command_parser(name), []
    if cli.COMMANDS[name].takes_keys:
        flags = [flag for a in parser._actions if a.nargs == 0 for flag in a.option_strings]
        rest, overrides = cli.split_overrides(rest, flags)
    default_config().merge_from_list(overrides)  # all keys exist, and take such values
    return parser.parse_args(rest)


@pytest.mark.parametrize("document", DOCUMENTS, ids=document_name)
def test_commands_in_blocks_are_understood(document):
    for line in block_lines(document):
        words = words_of(line)
        if not words or KEY.fullmatch(words[0]):
            default_config().merge_from_list(words)
        elif words[0] == "maskrcnn":
            parsed(words)
        elif words[0] == "make":
            targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert words[1] in targets
        elif words[0] == "python":
            assert (ROOT / words[1]).exists(), line
        else:
            assert words[0] in OTHER_PROGRAMS, f"what is {words[0]}? {line}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=document_name)
def test_yaml_in_blocks_is_part_of_a_config(document, tmp_path):
    for number, (kind, text) in enumerate(BLOCK.findall(document.read_text())):
        assert kind in ("bash", "sh", "python", "yaml", "text"), f"what is in a block of {kind!r}?"
        if kind == "yaml":
            (tmp_path / f"{number}.yaml").write_text(text)
            default_config().merge_from_file(tmp_path / f"{number}.yaml")


@pytest.mark.parametrize("document", DOCUMENTS, ids=document_name)
def test_commands_in_sentences_name_sub_commands_and_options_that_exist(document):
    for code in inline_commands(document):
        _, name, *rest = code.replace("'", "").split()
        if name in ("--help", "--version") or name.isupper():
            continue  # `maskrcnn COMMAND --help`
        assert name in cli.COMMANDS, code
        known = cli.command_parser(name)._option_string_actions
        assert [word for word in rest if word.startswith("--") and word not in known] == [], code


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_the_help_are_understood(name):
    for example in EXAMPLES[name]:
        words = words_of(example)
        assert words[:2] == ["maskrcnn", name]
        parsed(words)


def cells_on_the_right():
    text = (ROOT / "docs" / "coming_from.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [row.split(" | ", 1)[1] for row in rows]


def test_keys_to_change_to_exist():
    known = default_config().flat()
    keys = [match[0] for cell in cells_on_the_right() for match in KEY.finditer(cell)]
    assert len(keys) > 60
    assert [key for key in keys if key not in known] == []


def test_classes_to_change_to_exist():
    names = [match[0] for cell in cells_on_the_right() for match in NAME.finditer(cell)]
    assert len(names) > 20
    for name in names:
        place, attributes = name, []
        while True:
            try:
                found = import_module(place)
                break
            except ModuleNotFoundError:
                place, _, last = place.rpartition(".")
                attributes.insert(0, last)
        for attribute in attributes:
            found = getattr(found, attribute)


def test_commands_to_change_to_are_whole():
    commands = inline_commands(ROOT / "docs" / "coming_from.md")
    assert len(commands) > 50
    for command in commands:
        parsed(words_of(command.replace(" KEY VALUE", "")))
