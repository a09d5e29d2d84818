"""Loads a file over HTTP: checked, whole or not at all, and from where it broke off (RFC 9110).

A server that knows ranges sends the rest of a file that came in part. What belongs together is
known by the server's ``ETag`` or ``Last-Modified`` within one call, and by the published hash in
the end; without either a broken transfer begins anew.
"""

import hashlib
import logging
import os
import re
import time
import uuid
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20  # bytes
_PARTIAL_CONTENT, _RANGE_NOT_SATISFIABLE = 206, 416
_RETRIED_STATUS = (408, 425, 429, 500, 502, 503, 504)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_MD5 = re.compile(r"\b[0-9a-f]{32}\b")
_AGENT = {"User-Agent": "maskrcnn_lib"}


class _TemporaryError(Exception):
    """A failure that may be gone at the next attempt."""


@dataclass
class _Transfer:
    """One file on its way.

    Attributes:
        url: where it comes from.
        partial: where it arrives.
        label: what the progress bar calls it.
        timeout_s: seconds that the server may stay silent.
        checked: whether the hash of the whole will tell if parts of different files were joined.
        validator: the server's name for this state of the file.
    """

    url: str
    partial: Path
    label: str
    timeout_s: float
    checked: bool
    validator: str = ""

    def run(self) -> None:
        """Brings all that is missing; raises ``_TemporaryError`` where another try may help."""
        arrived = self.partial.stat().st_size if self.partial.exists() else 0
        if arrived and not (self.checked or self.validator):
            arrived = 0
        headers = dict(_AGENT)
        if arrived:
            headers["Range"] = f"bytes={arrived}-"
            if self.validator:
                headers["If-Range"] = self.validator
        try:
            with urlopen(Request(self.url, headers=headers), timeout=self.timeout_s) as response:
                self._receive(response, arrived)
        except HTTPError as error:
            message = f"the server answered {error.code} {error.reason}"
            if error.code == _RANGE_NOT_SATISFIABLE:
                self.partial.unlink()  # there is more of it than the server has
            if error.code in (*_RETRIED_STATUS, _RANGE_NOT_SATISFIABLE):
                raise _TemporaryError(message) from error
            raise OSError(message) from error
        except URLError as error:
            if isinstance(error.reason, ConnectionResetError):
                raise _TemporaryError(f"the connection was reset ({error.reason})") from error
            host = urlsplit(self.url).hostname
            raise OSError(f"{host} cannot be reached ({error.reason})") from error
        except (ConnectionError, TimeoutError, HTTPException) as error:
            raise _TemporaryError(f"the transfer was interrupted ({error})") from error

    def _receive(self, response: HTTPResponse, arrived: int) -> None:
        from tqdm import tqdm

        if response.status != _PARTIAL_CONTENT:
            arrived = 0  # the server sends the whole file
        elif _first_byte(response) != arrived:
            raise OSError(f"the server sent another part than was asked for, from {arrived}")
        etag = response.headers.get("ETag", "")
        # A weak ETag may name files that differ.
        self.validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
        length = response.headers.get("Content-Length")
        total = arrived + int(length) if length else None
        bar = tqdm(
            total=total,
            initial=arrived,
            desc=self.label,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            disable=None,
        )
        with bar, open(self.partial, "ab" if arrived else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                arrived += len(chunk)
                bar.update(len(chunk))
        if total is not None and arrived != total:
            raise _TemporaryError(f"the transfer ended after {arrived} of {total} bytes")


def download_file(
    url: str,
    destination: Path,
    *,
    sha256: str = "",
    md5_url: str = "",
    timeout_s: float = 30.0,
    attempts: int = 3,
) -> None:
    """Loads ``url`` into ``destination``, which appears whole and checked or not at all.

    A transfer that breaks off goes on where it stopped, at the next attempt or in a later call; the
    latter where a hash is published.

    Args:
        url: http or https.
        destination: its folder is made where it is missing.
        sha256: hexadecimal, whole or the first digits; "" where it is not known.
        md5_url: where the MD5 sum is published; a sum that cannot be had is warned of. Without
            any hash the announced length alone is checked.
        timeout_s: seconds that the server may stay silent.
        attempts: how often an interrupted transfer is started; later ones wait 1, 2, 4 ... s.

    Raises:
        OSError: the server or the disk fails; says how.
        ValueError: the content has another hash, or the address is not http(s).
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{url!r} is not an http or https address")
    destination.parent.mkdir(parents=True, exist_ok=True)
    unfinished = destination.with_name(f".{destination.name}.part")
    partial = destination.with_name(f".{destination.name}.{uuid.uuid4().hex}.part")
    checked = bool(sha256 or md5_url)
    _take_over(unfinished, partial)
    try:
        _run(_Transfer(url, partial, destination.name, timeout_s, checked), attempts)
        _check(url, partial, sha256=sha256, md5_url=md5_url, timeout_s=timeout_s)
        os.replace(partial, destination)
    except ValueError:
        partial.unlink(missing_ok=True)
        raise
    finally:
        if checked and partial.exists() and partial.stat().st_size:
            os.replace(partial, unfinished)
        partial.unlink(missing_ok=True)


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hash of a file in hexadecimal; ``algorithm`` as hashlib calls it."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _take_over(unfinished: Path, partial: Path) -> None:
    """Makes what an earlier call left this call's own; of several at once, one gets it."""
    try:
        os.replace(unfinished, partial)
    except FileNotFoundError:
        return
    logger.info("Going on with %s, of which %d bytes are here", unfinished, partial.stat().st_size)


def _run(transfer: _Transfer, attempts: int) -> None:
    for attempt in range(1, attempts + 1):
        try:
            transfer.run()
            return
        except _TemporaryError as error:
            if attempt == attempts:
                raise OSError(f"{error} (attempt {attempt} of {attempts})") from error
            logger.warning("%s; trying again (%d of %d)", error, attempt + 1, attempts)
            time.sleep(2.0 ** (attempt - 1))


def _first_byte(response: HTTPResponse) -> int | None:
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _check(url: str, path: Path, *, sha256: str, md5_url: str, timeout_s: float) -> None:
    published = {
        "sha256": sha256.lower(),
        "md5": _published_md5(md5_url, timeout_s) if md5_url else "",
    }
    for algorithm, expected in published.items():
        if not expected:
            continue
        digest = file_digest(path, algorithm)
        if not digest.startswith(expected):
            name = {"sha256": "SHA-256", "md5": "MD5"}[algorithm]
            raise ValueError(
                f"{url} gave a file with {name} {digest}, but {expected} is published: the file "
                "was changed on the way or at its source; nothing was kept"
            )


def _published_md5(url: str, timeout_s: float) -> str:
    """The MD5 sum that stands at ``url``; "" with a warning where there is none."""
    try:
        with urlopen(Request(url, headers=_AGENT), timeout=timeout_s) as response:
            match = _MD5.search(response.read(_CHUNK).decode("ascii", "replace").lower())
    except (OSError, HTTPException) as error:
        logger.warning("The file is not checked: its MD5 sum at %s cannot be had (%s)", url, error)
        return ""
    if match is None:
        logger.warning("The file is not checked: %s holds no MD5 sum", url)
        return ""
    return match[0]
