"""Pairs of parameter names, foreign and native, that can be read in both directions.

A name holds placeholders: ``{p}`` is the parameter ("weight"), and another letter is a number, to
which each side may apply a linear rule. The pair ``("blocks.{i}.0.{p}", "fpn_inner{i+1}.{p}")``
leads from ``blocks.0.0.bias`` to ``fpn_inner1.bias`` and back; ``{2*i}`` and ``{3*i+1}`` work as
well. One table serves the importer and the exporter of a format.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from maskrcnn_lib.checkpoint.importers.base import Rule

PARAMETERS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

_FIELD = re.compile(r"\{([^{}]+)\}")
_LINEAR = re.compile(r"(?:(?P<factor>\d+)\*)?(?P<letter>[a-z])(?P<offset>[+-]\d+)?")
_PARAMETER = "p"


class NamePair(NamedTuple):
    """Templates of the name of one kind of parameter in a foreign format and in ours."""

    foreign: str
    native: str


class _Linear(NamedTuple):
    """The number ``factor * value + offset`` in a name, for the value of a letter."""

    letter: str
    factor: int
    offset: int

    def number(self, value: int) -> int:
        return self.factor * value + self.offset

    def value(self, number: int) -> int | None:
        """The value that gives ``number``; None where no natural number does."""
        value, rest = divmod(number - self.offset, self.factor)
        return value if rest == 0 and value >= 0 else None


def import_rules(pairs: Iterable[NamePair]) -> list[Rule]:
    """Rules for ``rename`` that lead from foreign to native names."""
    return [_rule(pair.foreign, pair.native) for pair in pairs]


def export_rules(pairs: Iterable[NamePair]) -> list[Rule]:
    """Rules for ``rename`` that lead from native to foreign names."""
    return [_rule(pair.native, pair.foreign) for pair in pairs]


def _rule(source: str, target: str) -> Rule:
    fields = _fields(source)

    def renamed(match: re.Match[str]) -> str | None:
        values: dict[str, int] = {}
        for field in fields:
            value = field.value(int(match[field.letter]))
            if value is None:
                return None
            values[field.letter] = value
        return _FIELD.sub(lambda field: _written(field[1], values, match), target)

    return _pattern(source), renamed


def _written(field: str, values: dict[str, int], match: re.Match[str]) -> str:
    if field == _PARAMETER:
        return match[_PARAMETER]
    linear = _linear(field)
    return str(linear.number(values[linear.letter]))


def _pattern(template: str) -> str:
    """Regular expression of the names that a template may give."""
    parts = _FIELD.split(template)  # text, field, text, field, ..., text
    groups = [
        f"(?P<p>{'|'.join(PARAMETERS)})"
        if field == _PARAMETER
        else rf"(?P<{_linear(field).letter}>\d+)"
        for field in parts[1::2]
    ]
    texts = [re.escape(text) for text in parts[::2]]
    return "".join(text + group for text, group in zip(texts, [*groups, ""], strict=True))


def _fields(template: str) -> list[_Linear]:
    return [_linear(field) for field in _FIELD.findall(template) if field != _PARAMETER]


def _linear(field: str) -> _Linear:
    match = _LINEAR.fullmatch(field)
    if match is None:
        raise ValueError(f"{{{field}}} is neither {{p}} nor a linear rule such as {{2*i+1}}")
    return _Linear(match["letter"], int(match["factor"] or 1), int(match["offset"] or 0))


def resnet_pairs(foreign: str, native: str, *, norm: str = "bn") -> list[NamePair]:
    """A ResNet with torchvision's names of layers behind two prefixes, as most toolboxes have it.

    Args:
        foreign, native: prefixes, with their last dot.
        norm: what the foreign format calls its norm layers, before their number.
    """
    return [
        NamePair(f"{foreign}conv1.{{p}}", f"{native}stem.conv1.{{p}}"),
        NamePair(f"{foreign}{norm}1.{{p}}", f"{native}stem.bn1.{{p}}"),
        *stage_pairs(f"{foreign}layer{{s}}.", f"{native}layer{{s}}.", norm=norm),
    ]


def stage_pairs(foreign: str, native: str, *, norm: str = "bn") -> list[NamePair]:
    """The blocks of one stage, or of all where the prefixes hold a number; see ``resnet_pairs``."""
    return [
        NamePair(f"{foreign}{{b}}.conv{{c}}.{{p}}", f"{native}{{b}}.conv{{c}}.{{p}}"),
        NamePair(f"{foreign}{{b}}.{norm}{{c}}.{{p}}", f"{native}{{b}}.bn{{c}}.{{p}}"),
        NamePair(f"{foreign}{{b}}.downsample.{{c}}.{{p}}", f"{native}{{b}}.downsample.{{c}}.{{p}}"),
    ]
