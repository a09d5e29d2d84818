"""The reference page of all config keys, made from the lines and comments of ``defaults.py``."""

import ast
import inspect
import re
from collections import defaultdict
from typing import NamedTuple

from maskrcnn_lib.config import defaults

_HEAD = """\
# Every config key

Made from `maskrcnn_lib/config/defaults.py` by `maskrcnn config --reference`; do not edit. {notes}

A config is YAML in the nesting that the dots below show; `_BASE_: NAME` inherits from another file.
The same keys and values may end any command that takes a config:

```bash
maskrcnn config e2e_mask_rcnn_R_50_FPN_1x --diff
maskrcnn config e2e_mask_rcnn_R_50_FPN_1x SOLVER.IMS_PER_BATCH 2 MODEL.DEVICE cpu
```

The first prints what a published config changes, the second a whole config as it resolves. A key
that does not exist, or a value of another type, is an error that names the nearest keys or types.
"""
_COMMENT = re.compile(r"  # (.*)$")


class Key(NamedTuple):
    """A config key: ``name`` with all sections, the default as it is written, what it means."""

    name: str
    default: str
    meaning: str


def config_keys() -> list[Key]:
    """All keys in the order of ``defaults.py``."""
    source = inspect.getsource(defaults)
    lines = source.splitlines()
    keys = []
    for node in ast.parse(source).body:
        if not isinstance(node, ast.Assign) or isinstance(node.value, ast.Call):
            continue  # a section, which is CN()
        name = ast.unparse(node.targets[0]).removeprefix("_C.")
        # The comment stands on the line where the statement begins.
        comment = _COMMENT.search(lines[node.lineno - 1])
        meaning = _lines_above(lines, node.lineno - 1) + (comment[1] if comment else "")
        keys.append(Key(name, ast.unparse(node.value), meaning.replace("|", "\\|")))
    return keys


def config_reference() -> str:
    """The page as Markdown: a table for each section, in the order of their first keys."""
    sections = defaultdict(list)
    for key in config_keys():
        section, _, last = key.name.rpartition(".")
        sections[section or "Without a section"].append(key._replace(name=last))
    notes = " ".join((inspect.getdoc(defaults) or "").split("\n\n")[-1].replace("``", "`").split())
    parts = [_HEAD.format(notes=notes)]
    for section, keys in sections.items():
        rows = [f"| `{key.name}` | `{key.default}` | {key.meaning} |" for key in keys]
        parts.append(
            "\n".join([f"## {section}\n", "| key | default | |", "|---|---|---|", *rows, ""])
        )
    return "\n".join(parts)


def _lines_above(lines: list[str], index: int) -> str:
    """The comment lines directly above a line, as one text that ends with a blank."""
    first = index
    while lines[first - 1].startswith("# "):
        first -= 1
    return "".join(f"{line.removeprefix('# ')} " for line in lines[first:index])
