"""From the name of some weights to a file on this machine.

Looked at in this order: a path, the directories of ``MASKRCNN_WEIGHTS_DIR``, the cache, the cache
of torch.hub (torchvision keeps its weights there), and last the published address. Files whose
SHA-256 is published are checked, wherever they come from.
"""

import hashlib
import logging
import os
import re
import time
import uuid
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from maskrcnn_lib.config.model_entries import ModelEntry
from maskrcnn_lib.config.paths_catalog import ModelCatalog

logger = logging.getLogger(__name__)

WEIGHTS_VARIABLE = "MASKRCNN_WEIGHTS_DIR"
CACHE_VARIABLE = "MASKRCNN_CACHE"
CATALOG_SCHEME = "catalog://"

_CHUNK = 1 << 20  # bytes
_RETRIED_STATUS = (408, 425, 429, 500, 502, 503, 504)
# torch.hub's convention: the file name ends with the first digits of the SHA-256.
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[^.]+$")


class _TemporaryError(Exception):
    """A failure that may be gone at the next attempt."""


def resolve_weights(
    name: str | Path,
    *,
    catalog: Any = ModelCatalog,
    timeout_s: float = 30.0,
    attempts: int = 3,
) -> Path:
    """File of the weights called ``name``; downloaded where it is not on this machine yet.

    Args:
        name: a path, a catalog name with or without ``catalog://``, or an http(s) address.
        catalog: where names are looked up: ``entry(name)`` or maskrcnn-benchmark's ``get(name)``.
        timeout_s: seconds that the server may stay silent.
        attempts: how often an interrupted download is started.

    Raises:
        FileNotFoundError: the weights cannot be had; the message says which file to put where.
        ValueError: what came does not have the published SHA-256.
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
            entry.url, destination, sha256=entry.sha256, timeout_s=timeout_s, attempts=attempts
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


def cache_directory() -> Path:
    """Where downloads are kept: ``MASKRCNN_CACHE``, else ``~/.cache/maskrcnn_lib``."""
    value = os.environ.get(CACHE_VARIABLE)
    if value:
        return Path(value).expanduser()
    return _user_cache() / "maskrcnn_lib"


def download_file(
    url: str, destination: Path, *, sha256: str = "", timeout_s: float = 30.0, attempts: int = 3
) -> None:
    """Loads ``url`` into ``destination``, which appears whole and checked or not at all.

    Args:
        url: http or https.
        destination: its folder is made where it is missing.
        sha256: hexadecimal, whole or the first digits; "" checks the announced length alone.
        timeout_s: seconds that the server may stay silent.
        attempts: how often an interrupted transfer is started; later ones wait 1, 2, 4 ... s.

    Raises:
        OSError: the server or the disk fails; says how.
        ValueError: the content has another SHA-256, or the address is not http(s).
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{url!r} is not an http or https address")
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(f".{destination.name}.{uuid.uuid4().hex}.part")
    try:
        for attempt in range(1, attempts + 1):
            try:
                digest = _transfer(url, partial, label=destination.name, timeout_s=timeout_s)
                break
            except _TemporaryError as error:
                if attempt == attempts:
                    raise OSError(f"{error} (attempt {attempt} of {attempts})") from error
                logger.warning("%s; trying again (%d of %d)", error, attempt + 1, attempts)
                time.sleep(2.0 ** (attempt - 1))
        if not digest.startswith(sha256.lower()):
            raise ValueError(
                f"{url} gave a file with SHA-256 {digest}, but {sha256} is published: the file was "
                "changed on the way or at its source; nothing was kept"
            )
        os.replace(partial, destination)
    finally:
        partial.unlink(missing_ok=True)


def _transfer(url: str, partial: Path, *, label: str, timeout_s: float) -> str:
    """Copies one response to a file and returns its SHA-256."""
    from tqdm import tqdm

    digest, received = hashlib.sha256(), 0
    try:
        request = Request(url, headers={"User-Agent": "maskrcnn_lib"})
        with urlopen(request, timeout=timeout_s) as response, open(partial, "wb") as file:
            length = response.headers.get("Content-Length")
            total = int(length) if length else None
            with tqdm(
                total=total, desc=label, unit="B", unit_scale=True, unit_divisor=1024, disable=None
            ) as bar:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    received += len(chunk)
                    bar.update(len(chunk))
    except HTTPError as error:
        message = f"the server answered {error.code} {error.reason}"
        if error.code in _RETRIED_STATUS:
            raise _TemporaryError(message) from error
        raise OSError(message) from error
    except URLError as error:
        if isinstance(error.reason, ConnectionResetError):
            raise _TemporaryError(f"the connection was reset ({error.reason})") from error
        host = urlsplit(url).hostname
        raise OSError(f"{host} cannot be reached ({error.reason})") from error
    except (ConnectionError, TimeoutError, HTTPException) as error:
        raise _TemporaryError(f"the transfer was interrupted ({error})") from error
    if total is not None and received != total:
        raise _TemporaryError(f"the transfer ended after {received} of {total} bytes")
    return digest.hexdigest()


def _find_entry(name: str, catalog: Any) -> ModelEntry:
    """What is known of an address or a catalog name; KeyError for an unknown name."""
    if name.startswith(("http://", "https://")):
        return _entry_of_url(name)
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
    directories = [*weights_directories(), cache_directory(), _torch_hub_directory()]
    for directory in directories:
        path = directory / entry.file_name
        if not path.is_file():
            continue
        if not entry.sha256:
            return path
        digest = _sha256(path)
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


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


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
