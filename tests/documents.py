"""The documents of a checkout, and the command lines and code in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("demo/**/*.md")]
DOCUMENTS += [*ROOT.glob("training/*.md"), *ROOT.glob("maskrcnn_lib/**/*.md")]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = ("bash", "sh")
KEY = re.compile(r"[A-Z]\w*(\.[A-Z0-9_]+)+")  # of the config
COMMENT = re.compile(r"(^|\s+)#( .*)?$")

# Shell lines that no test runs, and why; each of them has to stand in its document.
_INSTALL = "pip install --no-build-isolation -e "
_DEPENDENCIES = 'pip install "setuptools>=77" wheel ninja "torch>=2.11" torchvision'
NOT_RUN = {
    ("README.md", "make demo"): "installs; .ci/run has it",
    ("README.md", "make test"): "runs all tests; .ci/run has it",
    ("INSTALL.md", _DEPENDENCIES): "downloads; the Makefile has it",
    ("INSTALL.md", _INSTALL + "."): "replaces the installation; the Makefile has it",
    ("INSTALL.md", f"FORCE_CUDA=1 {_INSTALL}."): "needs nvcc",
    ("INSTALL.md", f'FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST="8.0;9.0" {_INSTALL}.'): "needs nvcc",
    ("docs/getting_started.md", _DEPENDENCIES): "as in INSTALL.md",
    ("docs/getting_started.md", _INSTALL + '".[plots]"'): "as in INSTALL.md",
    ("docs/exchange.md", "pip install fastapi uvicorn python-multipart"): "downloads",
    ("docs/export.md", "pip install 'maskrcnn_lib[export]'"): "downloads",
    (
        "demo/balloon.md",
        "curl -LO https://github.com/matterport/Mask_RCNN/releases/download/v2.1/balloon_dataset.zip",
    ): "downloads",
    ("demo/balloon.md", "unzip -q balloon_dataset.zip -d datasets"): "of the download",
    ("demo/balloon.md", "export MASKRCNN_WEIGHTS_DIR=$HOME/weights"): "the test's own directory",
}


def document_name(path: Path) -> str:
    """What tests call a document: its path in the checkout."""
    return path.relative_to(ROOT).as_posix()


def steps(document: Path) -> Iterator[tuple[str, str]]:
    """What a reader does, in its order: ("shell", a line) or ("python", a block).

    Shell lines that go on with a backslash are joined; comments are left out.
    """
    for kind, text in BLOCK.findall(document.read_text()):
        if kind in SHELL:
            for line in text.replace("\\\n", " ").splitlines():
                if command := COMMENT.sub("", line):
                    yield "shell", command
        elif kind == "python":
            yield kind, text


def block_lines(document: Path) -> list[str]:
    """The command lines of the shell blocks."""
    return [text for kind, text in steps(document) if kind == "shell"]


def words_of(line: str) -> list[str]:
    """The words of a command line, without a comment, a redirection and variables in front."""
    words = shlex.split(line.partition(" > ")[0], comments=True)
    while words and re.match(r"\w+=", words[0]):
        words = words[1:]
    return words


def inline_commands(document: Path) -> list[str]:
    """The commands within a document's sentences and tables; they may be fragments."""
    text = BLOCK.sub("", document.read_text())
    return [code for code in re.findall(r"`([^`]+)`", text) if code.startswith("maskrcnn ")]
