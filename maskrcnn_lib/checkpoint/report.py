"""What became of each tensor when weights were loaded, as data and as a readable table."""

from collections.abc import Sequence
from dataclasses import dataclass, field

_MAX_LINES = 12
_TITLES = ("loaded", "rearranged", "missing", "unexpected", "reinitialised", "ignored")


@dataclass(frozen=True)
class LoadReport:
    """Outcome of ``load_weights``.

    Attributes:
        format: the format that was recognised.
        loaded: the model's parameters and buffers that took a value from the file.
        missing: those that the file says nothing about; they keep the value they had.
        unexpected: what the file holds and the model has no place for, in native names where the
            format's mapping knows them, else in the file's.
        reinitialised: the model's parameters whose shape differs from the file's (heads of another
            number of classes); they keep the value with which the model was built.
        class_names: one name per label, the background first; None where they are not known or the
            classifier did not come from the file.
        ignored: what the file holds and no model needs (momentum, stored anchors).
        dialect: the ``MODEL.DIALECT`` under which the file gives its published numbers; None where
            that is not known.
        source: the file, or a description of where the weights came from.
        shapes: reinitialised name -> (shape in the file, shape in the model).
        rearranged: loaded parameters of which only the rows of classes that the file knows by name
            came from it.
    """

    format: str
    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    reinitialised: list[str]
    class_names: tuple[str, ...] | None = None
    ignored: list[str] = field(default_factory=list)
    dialect: str | None = None
    source: str = "weights"
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    rearranged: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every tensor of the model and of the file found its whole counterpart."""
        return not (self.missing or self.unexpected or self.reinitialised or self.rearranged)

    def __str__(self) -> str:
        lines = [f"{self.source} (format {self.format})"]
        for title in _TITLES:
            names: list[str] = getattr(self, title)
            if title != "rearranged" or names:
                lines.append(f"  {title:<14}{len(names):>5}")
            if title in ("missing", "unexpected", "rearranged"):
                lines += _indented(_grouped(names))
            elif title == "reinitialised":
                lines += _indented([self._shape_line(name) for name in names])
        return "\n".join(lines)

    def _shape_line(self, name: str) -> str:
        if name not in self.shapes:
            return name
        in_file, in_model = self.shapes[name]
        return f"{name}: {in_file} in the file, {in_model} in the model"


def _grouped(names: Sequence[str]) -> list[str]:
    """Joins names that differ in their last part: ``fc6.{bias, weight}``."""
    groups: dict[str, list[str]] = {}
    for name in names:
        head, _, last = name.rpartition(".")
        groups.setdefault(head, []).append(last)
    return [
        ".".join(filter(None, (head, parts[0] if len(parts) == 1 else f"{{{', '.join(parts)}}}")))
        for head, parts in groups.items()
    ]


def _indented(lines: list[str]) -> list[str]:
    shown = lines[:_MAX_LINES]
    if len(lines) > len(shown):
        shown.append(f"... and {len(lines) - len(shown)} more")
    return [f"      {line}" for line in shown]
