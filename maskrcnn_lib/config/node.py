"""The configuration tree: yacs's CfgNode with inheritance, stricter types and helpful errors.

Reading a config runs no code: YAML is loaded with the safe loader, and the Python files that yacs
would execute are refused.
"""

import difflib
from ast import literal_eval
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from yacs.config import CfgNode as _YacsNode

from maskrcnn_lib.config.files import config_path, load_yaml


class CfgNode(_YacsNode):
    """A tree of named values; leaves are read and set as attributes.

    Every value keeps the type of its default: an int is accepted for a float, lists and tuples
    stand for each other, anything else of another type is a ValueError. Only existing keys can be
    merged; an unknown one is a KeyError that names its nearest neighbours.
    """

    def merge_from_file(self, cfg_filename: str | Path) -> None:
        """Merges a YAML file (path or config name) with everything its ``_BASE_`` names."""
        path = Path(cfg_filename).expanduser()
        if path.suffix != ".py":
            path = config_path(path)
        self._merge_tree(load_yaml(path), origin=f" (in {path})")

    def merge_from_other_cfg(self, cfg_other: Mapping[str, Any]) -> None:
        """Merges another tree or nested dict."""
        self._merge_tree(cfg_other, origin="")

    def merge_from_list(self, cfg_list: Sequence[Any]) -> None:
        """Merges ``[KEY, value, KEY, value, ...]``; strings are read as Python literals.

        Raises:
            ValueError: odd length, or a value of the wrong type.
            KeyError: a key that does not exist.
        """
        if len(cfg_list) % 2:
            raise ValueError(f"overrides must be KEY VALUE pairs; got {list(cfg_list)}")
        for key, value in zip(cfg_list[0::2], cfg_list[1::2], strict=True):
            self._set(str(key).split("."), value, origin="", from_text=True)

    def flat(self, prefix: str = "") -> dict[str, Any]:
        """All leaves as ``{"A.B.C": value}`` in order of definition."""
        leaves: dict[str, Any] = {}
        for key, value in self.items():
            name = f"{prefix}{key}"
            leaves |= value.flat(f"{name}.") if isinstance(value, CfgNode) else {name: value}
        return leaves

    def _merge_tree(self, tree: Mapping[str, Any], *, origin: str) -> None:
        changes = list(_leaves(tree, ()))
        for path, _ in changes:  # before anything is changed
            self._parent(path, origin)
        for path, value in changes:
            self._set(path, value, origin=origin, from_text=False)

    def _parent(self, path: Sequence[str], origin: str) -> "CfgNode":
        """The section that holds the key ``path``; KeyError where there is no such key."""
        node: Any = self
        for section in path[:-1]:
            node = node.get(section) if isinstance(node, CfgNode) else None
        if not isinstance(node, CfgNode) or path[-1] not in node:
            self._raise_unknown(".".join(path), origin)
        return node

    def _set(self, path: Sequence[str], value: Any, *, origin: str, from_text: bool) -> None:
        node, name, full_key = self._parent(path, origin), path[-1], ".".join(path)
        if node.is_frozen():
            raise AttributeError(f"{full_key} cannot be set: the config is frozen{origin}")
        default = node[name]
        if isinstance(default, CfgNode):
            if value is None or value == {}:
                return
            raise ValueError(
                f"{full_key} is a section{origin}, but got the value {value!r}; set a key inside "
                f"it: {', '.join(f'{full_key}.{key}' for key in list(default)[:3])}, ..."
            )
        try:
            node[name] = _coerce(_decode(value, default, from_text=from_text), default)
        except TypeError as error:
            raise ValueError(f"{full_key}{origin}: {error}") from None

    def _raise_unknown(self, key: str, origin: str) -> NoReturn:
        if self.key_is_renamed(key):
            self.raise_key_rename_error(key)
        known = list(self.flat())
        upper = key.upper()
        near = difflib.get_close_matches(upper, known, n=3, cutoff=0.6)
        last = upper.rpartition(".")[2]
        same_name = [name for name in known if name.rpartition(".")[2] == last]
        near = list(dict.fromkeys([*same_name, *near]))[:4]
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise KeyError(f"unknown config key {key}{origin}{hint}")

    @classmethod
    def _load_cfg_py_source(cls, filename: str) -> NoReturn:
        raise ValueError(f"{filename} is Python code; a config must be YAML")


def _leaves(
    tree: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in tree.items():
        name = (*path, str(key))
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, name)
        else:
            yield name, value


def _decode(value: Any, default: Any, *, from_text: bool) -> Any:
    """Reads a string as a Python literal where the default is no string."""
    if not isinstance(value, str):
        return value
    if isinstance(default, str) and not from_text:
        return value
    if not isinstance(default, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        literal = literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    return value if isinstance(default, str) and not isinstance(literal, str) else literal


def _coerce(value: Any, default: Any) -> Any:
    """``value`` in the type of ``default``; raises TypeError that says both."""
    if type(value) is type(default) and not isinstance(value, list | tuple):
        return value
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if isinstance(default, list | tuple) and isinstance(value, list | tuple):
        return _coerce_items(value, default)
    raise TypeError(
        f"expected {_type_name(default)}, such as {default!r}, but got "
        f"{type(value).__name__} {value!r}{_sequence_hint(value, default)}"
    )


def _coerce_items(value: Sequence[Any], default: Sequence[Any]) -> Sequence[Any]:
    kind = type(default)
    kinds = {type(item) for item in default}
    numeric = kinds and kinds <= {int, float}
    items = []
    for item in value:
        if isinstance(item, list | tuple) and (numeric or not kinds):
            items.append(_coerce_items(item, default))
        elif kinds == {float} and type(item) is int:
            items.append(float(item))
        elif not kinds or type(item) in kinds or (numeric and type(item) in (int, float)):
            items.append(item)
        else:
            raise TypeError(
                f"expected {_type_name(default)}, such as {default!r}, but {value!r} holds the "
                f"{type(item).__name__} {item!r}"
            )
    return kind(items)


def _type_name(default: Any) -> str:
    name = type(default).__name__
    if isinstance(default, list | tuple) and default:
        inner = " or ".join(sorted({type(item).__name__ for item in default}))
        return f"{name} of {inner}"
    return name


def _sequence_hint(value: Any, default: Any) -> str:
    if not isinstance(default, list | tuple) or not isinstance(value, int | float | str):
        return ""
    return f"; a sequence of one is written ({value!r},)"
