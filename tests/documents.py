"""The documents of a checkout, and the command lines in them."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("demo/**/*.md")]
DOCUMENTS += [*ROOT.glob("training/*.md"), *ROOT.glob("maskrcnn_lib/**/*.md")]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def block_lines(document):
    """The command lines of shell blocks; lines that go on with a backslash are joined."""
    for kind, text in BLOCK.findall(document.read_text()):
        if kind in ("bash", "sh", ""):
            for line in text.replace("\\\n", " ").splitlines():
                if line.strip() and not line.lstrip().startswith("#"):
                    yield line


def words_of(line):
    """The words of a command line, without a comment, a redirection and variables in front."""
    words = shlex.split(line.partition(" > ")[0], comments=True)
    while words and re.match(r"\w+=", words[0]):
        words = words[1:]
    return words
