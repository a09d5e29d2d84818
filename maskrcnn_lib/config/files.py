"""Where configuration files lie and how one is read: names, ``_BASE_`` inheritance, safe YAML.

A config name is a path under ``configs/`` without ``.yaml``. The files are installed inside the
package as ``maskrcnn_lib/configs``; in a checkout they stand in the top-level ``configs/``.
"""

import difflib
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

BASE_KEY = "_BASE_"
_SUFFIXES = (".yaml", ".yml")
_PACKAGE = Path(__file__).resolve().parents[1]


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe loader, except that a key written twice is an error instead of a silent loss."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} appears twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


def config_directories() -> list[Path]:
    """Directories searched for config names: the installed package's, then the checkout's."""
    candidates = [_PACKAGE / "configs"]
    root = _PACKAGE.parent
    if (root / "pyproject.toml").is_file():
        candidates.append(root / "configs")
    return [path for path in candidates if path.is_dir()]


def list_configs() -> list[str]:
    """All config names, sorted. Files below a folder named ``_base_`` are parts, not configs."""
    names = {
        path.relative_to(directory).with_suffix("").as_posix()
        for directory in config_directories()
        for path in directory.rglob("*.yaml")
        if "_base_" not in path.relative_to(directory).parts
    }
    return sorted(names)


def config_path(name: str | Path) -> Path:
    """Finds the file of a config name or returns an existing path as it is.

    Args:
        name: a path to a YAML file, or a name such as ``"torchvision/maskrcnn_resnet50_fpn"``;
            a leading ``configs/`` and a trailing ``.yaml`` are ignored in a name.

    Raises:
        FileNotFoundError: names the directories searched and the nearest config names.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    short = _short_name(path)
    for directory in config_directories():
        candidate = directory / f"{short}.yaml"
        if candidate.is_file():
            return candidate
    known = list_configs()
    near = difflib.get_close_matches(short, known, n=3, cutoff=0.5)
    searched = ", ".join(str(directory) for directory in config_directories()) or "no directory"
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise FileNotFoundError(
        f"config {str(name)!r} is neither a file nor a config name (searched {searched}){hint}"
    )


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Reads a YAML config and everything that it inherits from into one nested dict.

    ``_BASE_`` names one file or a list of files; a later one wins over an earlier one, and the
    file itself over all of them. A base is a path relative to the file that names it, or a config
    name.

    Raises:
        FileNotFoundError: the file or one of its bases does not exist.
        ValueError: the file is Python, is not valid YAML, is no mapping, or inherits in a circle.
    """
    return _load(Path(path).expanduser(), ())


def merge_nested(base: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """New nested dict with the values of both; where both have one, ``other``'s is taken."""
    merged = dict(base)
    for key, value in other.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = merge_nested(old, value) if both else value
    return merged


def _load(path: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    resolved = path.resolve()
    if resolved in chain:
        circle = " -> ".join(str(item) for item in (*chain[chain.index(resolved) :], resolved))
        raise ValueError(f"{BASE_KEY} goes round in a circle: {circle}")
    content = _read(resolved)
    merged: dict[str, Any] = {}
    for base in _base_names(content.pop(BASE_KEY, ()), resolved):
        merged = merge_nested(merged, _load(_find_base(base, resolved), (*chain, resolved)))
    return merge_nested(merged, content)


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".py":
        raise ValueError(
            f"{path} is Python code; a config must be YAML, because reading it must run nothing. "
            "Write its values to a .yaml file"
        )
    if not path.is_file():
        raise FileNotFoundError(f"config file {path} does not exist")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} must hold KEY: value lines at the top, but holds a {type(content).__name__}"
        )
    return content


def _base_names(value: object, path: Path) -> Sequence[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{BASE_KEY} in {path} must be a file name or a list of them, not {value}")
    return names


def _find_base(name: str, path: Path) -> Path:
    beside = path.parent / Path(name).expanduser()
    for candidate in (beside, *(beside.with_name(beside.name + suffix) for suffix in _SUFFIXES)):
        if candidate.is_file():
            return candidate
    try:
        return config_path(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{BASE_KEY} {name!r} in {path} is no file beside it; {error}"
        ) from error


def _short_name(path: Path) -> str:
    name = path.as_posix().removeprefix("./").removeprefix("configs/")
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name
