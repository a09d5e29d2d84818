"""The examples of modeling/README.md run as they stand."""

import re
from pathlib import Path

import pytest
import torch

import maskrcnn_lib.modeling
from maskrcnn_lib.modeling import registry

README = Path(maskrcnn_lib.modeling.__file__).with_name("README.md")
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SCREEN = 80  # lines that a section takes at most

pytestmark = pytest.mark.skipif(not README.exists(), reason="not a checkout")


@pytest.fixture
def registries():
    """The registries, without what a test registers afterwards."""
    every = [value for value in vars(registry).values() if isinstance(value, registry.Registry)]
    before = [set(one) for one in every]
    yield every
    for one, names in zip(every, before, strict=True):
        for name in set(one) - names:
            del one[name]


def test_examples_run_one_after_the_other(registries):
    text = README.read_text(encoding="utf-8")
    names = {"__name__": "readme"}
    torch.manual_seed(0)
    blocks = list(CODE.finditer(text))
    assert len(blocks) == 3
    for block in blocks:
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], str(README), "exec"), names)
    registered = {name for one in registries for name in one}
    assert {"Plain-FPN", "AveragedRegions", "CellDetector"} <= registered


def test_every_part_has_a_section_of_one_screen():
    sections = README.read_text(encoding="utf-8").split("\n## ")[1:]
    assert [section.splitlines()[0] for section in sections] == [
        "A backbone",
        "A head",
        "A meta-architecture",
    ]
    assert all(section.count("\n") <= SCREEN for section in sections)
