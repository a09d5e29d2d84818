"""The reference page says every key, with its default and its meaning, as they are."""

from pathlib import Path

import pytest

from maskrcnn_lib.config.defaults import default_config
from maskrcnn_lib.config.reference import config_keys, config_reference
from maskrcnn_lib.tools.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "config.md"


def test_each_key_is_there_with_its_default_and_a_meaning():
    keys = config_keys()
    written = {key.name: eval(key.default) for key in keys}
    assert written == default_config().flat() and len(written) == len(keys)
    assert [key.name for key in keys if not key.meaning] == []


@pytest.mark.skipif(not PAGE.exists(), reason="not a checkout")
def test_page_in_docs_is_what_the_command_prints(capsys):
    assert main(["config", "--reference"]) == 0
    printed = capsys.readouterr().out
    assert PAGE.read_text() == printed, "run: maskrcnn config --reference > docs/config.md"
    assert printed == config_reference()


def test_page_joins_a_comment_above_a_key_with_that_beside_it():
    (entry,) = [key for key in config_keys() if key.name == "TEST.EXPECTED_RESULTS"]
    assert entry.meaning.startswith("Scores to meet") and entry.meaning.endswith("by default none")
