"""From the name of some weights to a file on this machine.

Looked at in this order: a path, the directories of ``MASKRCNN_WEIGHTS_DIR``, the cache, the cache
of torch.hub (torchvision keeps its weights there), the weights that come with the package, and last
the published address. Files whose SHA-256 is published are checked, wherever they come from.
"""

import hashlib
import logging
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from maskrcnn_lib.checkpoint.library_weights import find_library_entry
from maskrcnn_lib.checkpoint.transfer import download_file, file_digest
from maskrcnn_lib.config.model_entries import ModelEntry
from maskrcnn_lib.config.paths_catalog import ModelCatalog

logger = logging.getLogger(__name__)

WEIGHTS_VARIABLE = "MASKRCNN_WEIGHTS_DIR"
CACHE_VARIABLE = "MASKRCNN_CACHE"
CATALOG_SCHEME = "catalog://"

# torch.hub's convention: the file name ends with the first digits of the SHA-256.
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[^.]+$")


def resolve_weights(
    name: str | Path,
    *,
    catalog: Any = ModelCatalog,
    timeout_s: float = 30.0,
    attempts: int = 3,
) -> Path:
    """File of the weights called ``name``; downloaded where it is not on this machine yet.

    Args:
        name: a path, a catalog name with or without ``catalog://``, an http(s) address, or ImageNet
            weights of a package, ``timm://...`` and ``torchvision://...``.
        catalog: where names are looked up: ``entry(name)`` or maskrcnn-benchmark's ``get(name)``.
        timeout_s: seconds that the server may stay silent.
        attempts: how often an interrupted download is started.

    Raises:
        FileNotFoundError: the weights cannot be had; the message says which file to put where.
        ValueError: what came does not have the published SHA-256 or MD5.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    try:
        entry = _find_entry(str(name), catalog)
    except KeyError as error:
        raise FileNotFoundError(f"there is no file {str(name)!r}, and {error.args[0]}") from error
    local = _find_entry_locally(entry)
    if local is not None:
        return local
    if not entry.url:
        raise FileNotFoundError(
            f"{_describe(entry)} has no address to load it from. {_where(entry)}"
        )
    destination = cache_directory() / entry.file_name
    try:
        download_file(
            entry.url,
            destination,
            sha256=entry.sha256,
            md5_url=entry.md5_url,
            timeout_s=timeout_s,
            attempts=attempts,
        )
    except OSError as error:
        raise FileNotFoundError(
            f"{_describe(entry)} could not be loaded from {entry.url}: {error}. {_where(entry)}"
        ) from error
    return destination


def find_local(name: str | Path, *, catalog: Any = ModelCatalog) -> Path | None:
    """The file that ``resolve_weights`` would give without a network; None if it would need one."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    try:
        return _find_entry_locally(_find_entry(str(name), catalog))
    except KeyError:
        return None


def weights_directories() -> list[Path]:
    """Directories of ``MASKRCNN_WEIGHTS_DIR``, in order; separated like those of ``PATH``."""
    value = os.environ.get(WEIGHTS_VARIABLE, "")
    return [Path(part).expanduser() for part in value.split(os.pathsep) if part]


def packaged_weights_directory() -> Path:
    """Where the package keeps the weights that it brings along."""
    return Path(__file__).parents[1] / "weights"


def cache_directory() -> Path:
    """Where downloads are kept: ``MASKRCNN_CACHE``, else ``~/.cache/maskrcnn_lib``."""
    value = os.environ.get(CACHE_VARIABLE)
    if value:
        return Path(value).expanduser()
    return _user_cache() / "maskrcnn_lib"


def _find_entry(name: str, catalog: Any) -> ModelEntry:
    """What is known of an address or a catalog name; KeyError for an unknown name."""
    if name.startswith(("http://", "https://")):
        return _entry_of_url(name)
    of_library = find_library_entry(name)
    if of_library is not None:
        return of_library
    name = name.removeprefix(CATALOG_SCHEME)
    if hasattr(catalog, "entry"):
        return catalog.entry(name)
    return _entry_of_url(catalog.get(name))


def _entry_of_url(url: str) -> ModelEntry:
    for name in ModelCatalog.names():
        entry = ModelCatalog.entry(name)
        if entry.url == url:
            return entry
    file_name = unquote(urlsplit(url).path).rpartition("/")[2]
    if not file_name:
        raise ValueError(f"{url!r} names no file")
    match = _HASH_IN_NAME.search(file_name)
    # Different addresses may end alike (model_final.pkl), so each has a folder of its own.
    folder = hashlib.sha256(url.encode()).hexdigest()[:12]
    return ModelEntry(
        name=url,
        file_name=f"{folder}/{file_name}",
        url=url,
        sha256=match[1] if match else "",
    )


def _find_entry_locally(entry: ModelEntry) -> Path | None:
    directories = [
        *weights_directories(),
        cache_directory(),
        _torch_hub_directory(),
        packaged_weights_directory(),
    ]
    for directory in directories:
        path = directory / entry.file_name
        if not path.is_file():
            continue
        if not entry.sha256:
            return path
        digest = file_digest(path)
        if digest.startswith(entry.sha256):
            return path
        logger.warning(
            "%s is passed over: its SHA-256 is %s, but that of %s begins with %s. To use it all "
            "the same, give its path",
            path,
            digest,
            entry.name,
            entry.sha256,
        )
    return None


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def _torch_hub_directory() -> Path:
    home = os.environ.get("TORCH_HOME")
    return (Path(home).expanduser() if home else _user_cache() / "torch") / "hub" / "checkpoints"


def _describe(entry: ModelEntry) -> str:
    facts = []
    if entry.size:
        facts.append(f"{entry.size / 1e6:.1f} MB")
    if entry.sha256:
        facts.append(f"SHA-256 {entry.sha256}")
    detail = f" ({', '.join(facts)})" if facts else ""
    return f"weights {entry.name}: the file {entry.file_name}{detail} is not on this machine and"


def _where(entry: ModelEntry) -> str:
    named = os.pathsep.join(str(path) for path in weights_directories()) or "not set"
    return (
        f"Put {entry.file_name} into {cache_directory()} or into a directory named by "
        f"{WEIGHTS_VARIABLE} (now {named}), or give the path of the file"
    )
