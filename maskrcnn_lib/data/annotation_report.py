"""What the validation of annotations found, counted by kind and listed one by one."""

import csv
import logging
import reprlib
from collections import Counter
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from maskrcnn_lib.utils.writing import named_errors

# refused: the data set cannot be used; dropped: left out; repaired: kept with a change;
# noted: kept as it is, but worth a look.
Action: TypeAlias = Literal["refused", "dropped", "repaired", "noted"]
ACTIONS: tuple[Action, ...] = ("refused", "dropped", "repaired", "noted")

_SHOWN_REFUSALS = 5
_DETAIL_LENGTH = 120


class Finding(NamedTuple):
    """One thing found.

    Attributes:
        action: what was done about it.
        kind: what it is, the same words for all of its kind.
        where: the image, annotation or category.
        detail: the value found; may be "".
    """

    action: Action
    kind: str
    where: str
    detail: str


class AnnotationReport:
    """All findings on one annotation file.

    Attributes:
        source: the file, for messages.
        findings: in the order of the file.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.findings: list[Finding] = []

    def add(self, action: Action, kind: str, where: str, detail: str = "") -> None:
        """Adds one finding."""
        self.findings.append(Finding(action, kind, where, detail))

    def counts(self) -> dict[tuple[Action, str], int]:
        """(action, kind) -> number of findings; by action, then the most frequent first."""
        counted = Counter((finding.action, finding.kind) for finding in self.findings)
        order = sorted(counted, key=lambda key: (ACTIONS.index(key[0]), -counted[key], key[1]))
        return {key: counted[key] for key in order}

    def count(self, action: Action) -> int:
        """Number of findings with this action."""
        return sum(finding.action == action for finding in self.findings)

    def table(self) -> str:
        """The counts as lines of text, each with one example."""
        if not self.findings:
            return "annotations: nothing to repair, drop or refuse"
        examples: dict[tuple[Action, str], Finding] = {}
        for finding in self.findings:
            examples.setdefault((finding.action, finding.kind), finding)
        lines = []
        for key, number in self.counts().items():
            example = examples[key]
            detail = f": {example.detail}" if example.detail else ""
            lines.append(f"{key[0]:<9}{number:>8}  {key[1]} (first: {example.where}{detail})")
        return "\n".join(lines)

    def log_once(self, logger: logging.Logger) -> None:
        """One warning with the table; nothing where nothing was found."""
        if self.findings:
            logger.warning("%s:\n%s", self.source, self.table())

    def raise_if_refused(self) -> None:
        """Raises AnnotationError where a finding makes the data set unusable."""
        refused = [finding for finding in self.findings if finding.action == "refused"]
        if refused:
            raise AnnotationError(self, refused)

    def write(self, path: str | Path) -> None:
        """Writes all findings as a CSV file with columns action, kind, where, detail."""
        with named_errors(path), Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(Finding._fields)
            writer.writerows(self.findings)


class AnnotationError(ValueError):
    """Annotations that cannot be used.

    Attributes:
        report: everything that was found.
    """

    def __init__(self, report: AnnotationReport, refused: list[Finding]) -> None:
        lines = [
            f"  - {f.where}: {f.kind}{f' ({f.detail})' if f.detail else ''}"
            for f in refused[:_SHOWN_REFUSALS]
        ]
        if len(refused) > _SHOWN_REFUSALS:
            lines.append(f"  - and {len(refused) - _SHOWN_REFUSALS} more")
        super().__init__(f"{report.source} cannot be used:\n" + "\n".join(lines))
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        refused = [finding for finding in self.report.findings if finding.action == "refused"]
        return type(self), (self.report, refused)


def brief(value: Any) -> str:
    """A short, printable form of any value that a JSON file can hold."""
    text = reprlib.repr(value).encode("ascii", "backslashreplace").decode("ascii")
    return text if len(text) <= _DETAIL_LENGTH else f"{text[:_DETAIL_LENGTH]}..."


def is_text(value: Any) -> bool:
    """Whether it is a str with some letters that a terminal, a file and a path can take."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        return False
    try:
        value.encode("utf-8")  # a lone surrogate cannot be encoded
    except UnicodeEncodeError:
        return False
    return True
