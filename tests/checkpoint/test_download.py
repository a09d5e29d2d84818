"""From a name to a file, against a real HTTP server on this machine."""

import hashlib
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from maskrcnn_lib.checkpoint import download, transfer
from maskrcnn_lib.checkpoint.download import find_local, resolve_weights
from maskrcnn_lib.config.model_entries import ModelEntry
from maskrcnn_lib.config.paths_catalog import ModelCatalog

CONTENT = os.urandom(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class _Server(ThreadingHTTPServer):
    """Serves CONTENT; the path says with which fault.

    ``requests`` lists the paths asked for, ``ranges`` the parts (None: the whole file). ``etag`` is
    what the server calls the file's state, ``md5`` what stands at ``*.md5sum``.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests = []
        self.ranges = []
        self.etag = ""
        self.content = CONTENT
        self.md5 = hashlib.md5(CONTENT).hexdigest()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        if self.path.startswith("/missing"):
            self.send_error(404)
        elif self.path.startswith("/busy_once") and len(self.server.requests) == 1:
            self.send_error(503)
        elif self.path.endswith(".md5sum"):
            self._send(200, f"{self.server.md5}  model_final.pkl\n".encode())
        else:
            self._send_file()

    def _send_file(self):
        content, asked = self.server.content, self.headers.get("Range")
        self.server.ranges.append(asked)
        fits = self.headers.get("If-Range", self.server.etag) == self.server.etag
        status, headers = 200, {"ETag": self.server.etag} if self.server.etag else {}
        if asked and fits and not self.path.startswith("/whole"):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            status, content = 206, content[start:]
        first = len(self.server.requests) == 1
        truncated = self.path.startswith("/truncated")
        if self.path.startswith(("/truncated_once", "/whole_truncated_once")):
            truncated = first
        self._send(status, content, len(content) // 3 if truncated else len(content), headers)

    def _send(self, status, content, sent=None, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:sent])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with _Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, no other directory to look into, and no waiting between attempts."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("MASKRCNN_CACHE", str(directory))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("MASKRCNN_WEIGHTS_DIR", raising=False)
    monkeypatch.setattr(transfer.time, "sleep", lambda seconds: None)
    return directory


class _Catalog:
    def __init__(self, **entries):
        self.entries = entries

    def entry(self, name):
        if name not in self.entries:
            raise KeyError(f"{name!r} is not in the catalog of weights")
        return self.entries[name]


def _catalog(url="", *, sha256=DIGEST):
    return _Catalog(
        model=ModelEntry(name="model", file_name="m.pth", url=url, sha256=sha256, size=7)
    )


def _files(directory):
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["model", "catalog://model"])
@pytest.mark.parametrize("sha256", [DIGEST, DIGEST[:8], ""])
def test_file_is_loaded_once_checked_and_kept(server, cache, name, sha256):
    catalog = _catalog(f"{server.url}/good.pth", sha256=sha256)
    assert find_local(name, catalog=catalog) is None
    for _ in range(2):
        path = resolve_weights(name, catalog=catalog)
        assert path == cache / "m.pth"
        assert path.read_bytes() == CONTENT
    assert find_local(name, catalog=catalog) == path
    assert server.requests == ["/good.pth"]
    assert _files(cache) == ["m.pth"]


def test_busy_server_is_asked_again(server, cache):
    path = resolve_weights("model", catalog=_catalog(f"{server.url}/busy_once.pth"))
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 2
    assert _files(cache) == ["m.pth"]


@pytest.mark.parametrize(
    ("sha256", "etag", "second"),
    [
        (DIGEST, "", "bytes=100000-"),  # the hash tells in the end
        ("", '"a"', "bytes=100000-"),  # the server tells
        ("", "", None),
        ("", 'W/"a"', None),  # files of one weak tag may differ
    ],
)
def test_broken_transfer_goes_on_where_its_parts_are_known_to_fit(
    server, cache, sha256, etag, second
):
    server.etag = etag
    catalog = _catalog(f"{server.url}/truncated_once.pth", sha256=sha256)
    assert resolve_weights("model", catalog=catalog).read_bytes() == CONTENT
    assert server.ranges == [None, second]
    assert _files(cache) == ["m.pth"]


def test_server_that_ignores_ranges_sends_all_of_it(server, cache):
    catalog = _catalog(f"{server.url}/whole_truncated_once.pth")
    assert resolve_weights("model", catalog=catalog).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-"]


def test_file_that_changes_between_attempts_is_loaded_anew(server, cache, monkeypatch):
    def change(seconds):
        server.etag, server.content = '"b"', CONTENT[::-1]

    server.etag = '"a"'
    monkeypatch.setattr(transfer.time, "sleep", change)
    catalog = _catalog(f"{server.url}/truncated_once.pth", sha256="")
    assert resolve_weights("model", catalog=catalog).read_bytes() == CONTENT[::-1]


def test_later_call_goes_on_with_what_an_earlier_one_left(server, cache):
    catalog = _catalog(f"{server.url}/truncated.pth")
    with pytest.raises(FileNotFoundError, match="ended after 100000 of 300000 bytes"):
        resolve_weights("model", catalog=catalog, attempts=1)
    assert _files(cache) == [".m.pth.part"]
    path = resolve_weights("model", catalog=_catalog(f"{server.url}/good.pth"))
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-"]
    assert _files(cache) == ["m.pth"]


def test_parts_of_different_files_are_found_out_and_not_kept(server, cache):
    cache.mkdir()
    (cache / ".m.pth.part").write_bytes(b"?" * 1000)
    catalog = _catalog(f"{server.url}/good.pth")
    with pytest.raises(ValueError, match="nothing was kept"):
        resolve_weights("model", catalog=catalog)
    assert _files(cache) == []
    assert resolve_weights("model", catalog=catalog).read_bytes() == CONTENT


def test_part_that_is_longer_than_the_file_is_dropped(server, cache):
    cache.mkdir()
    (cache / ".m.pth.part").write_bytes(CONTENT + b"?")
    path = resolve_weights("model", catalog=_catalog(f"{server.url}/good.pth"))
    assert path.read_bytes() == CONTENT
    assert server.ranges == ["bytes=300001-", None]


def test_each_attempt_brings_a_part_and_the_last_says_what_is_missing(server, cache):
    with pytest.raises(FileNotFoundError, match="ended after 211110 of 300000 bytes"):
        resolve_weights("model", catalog=_catalog(f"{server.url}/truncated.pth"))
    # a third of what is missing each time
    assert server.ranges == [None, "bytes=100000-", "bytes=166666-"]


def test_md5_sum_beside_the_file_is_checked(server, tmp_path):
    url, target = f"{server.url}/good.pkl", tmp_path / "good.pkl"
    transfer.download_file(url, target, md5_url=f"{url}.md5sum")
    assert target.read_bytes() == CONTENT
    server.md5 = "0" * 32
    with pytest.raises(ValueError, match=f"MD5 {hashlib.md5(CONTENT).hexdigest()}, but 0000"):
        transfer.download_file(url, tmp_path / "other.pkl", md5_url=f"{url}.md5sum")
    assert _files(tmp_path) == ["good.pkl"]


def test_md5_sum_that_cannot_be_had_is_a_warning(server, tmp_path, caplog):
    url = f"{server.url}/good.pkl"
    for index, md5_url in enumerate((f"{server.url}/missing.md5sum", url)):
        transfer.download_file(url, tmp_path / f"{index}.pkl", md5_url=md5_url)
        assert "not checked" in caplog.text and md5_url in caplog.text
        caplog.clear()
    assert _files(tmp_path) == ["0.pkl", "1.pkl"]


def test_truncated_file_is_refused_also_where_no_hash_is_published(server, cache):
    catalog = _catalog(f"{server.url}/truncated.pth", sha256="")
    with pytest.raises(FileNotFoundError, match="ended after"):
        resolve_weights("model", catalog=catalog, attempts=1)
    assert _files(cache) == []


def test_file_with_another_hash_is_refused_and_not_kept(server, cache):
    catalog = _catalog(f"{server.url}/good.pth", sha256="0123abcd")
    with pytest.raises(ValueError, match=f"{DIGEST}, but 0123abcd is published"):
        resolve_weights("model", catalog=catalog)
    assert len(server.requests) == 1
    assert _files(cache) == []


def test_missing_file_on_the_server_is_not_asked_for_again(server, cache):
    with pytest.raises(FileNotFoundError, match="answered 404"):
        resolve_weights("model", catalog=_catalog(f"{server.url}/missing.pth"))
    assert len(server.requests) == 1


def test_offline_message_says_which_file_to_put_where(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(tmp_path / "weights"))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/m.pth"
        with pytest.raises(FileNotFoundError) as error:
            resolve_weights("catalog://model", catalog=_catalog(url))
    for word in ("m.pth", url, "0.0 MB", DIGEST, str(cache), str(tmp_path / "weights")):
        assert word in str(error.value)


def test_weights_without_address_say_which_file_to_put_where(cache):
    with pytest.raises(FileNotFoundError) as error:
        resolve_weights("d2go/mask_rcnn_fbnetv3a_C4")
    for word in ("mask_rcnn_fbnetv3a_float.pth", "10.3 MB", "769ce9d8", "MASKRCNN_WEIGHTS_DIR"):
        assert word in str(error.value)


def test_directories_of_the_variable_are_searched_in_order_before_the_cache(
    cache, tmp_path, monkeypatch
):
    catalog = _catalog()
    folders = [tmp_path / "empty", tmp_path / "first", tmp_path / "second", cache]
    for folder in folders[1:]:
        folder.mkdir()
        (folder / "m.pth").write_bytes(CONTENT)
    search_path = os.pathsep.join(["", *(str(folder) for folder in folders[:3])])
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", search_path)
    assert resolve_weights("model", catalog=catalog) == folders[1] / "m.pth"
    monkeypatch.delenv("MASKRCNN_WEIGHTS_DIR")
    assert find_local("model", catalog=catalog) == cache / "m.pth"


def test_file_that_torch_hub_keeps_is_used(cache, tmp_path):
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "m.pth").write_bytes(CONTENT)
    assert resolve_weights("model", catalog=_catalog()) == folder / "m.pth"


def test_file_of_that_name_with_another_hash_is_passed_over_with_a_warning(
    server, cache, tmp_path, monkeypatch, caplog
):
    (tmp_path / "m.pth").write_bytes(b"something else")
    monkeypatch.setenv("MASKRCNN_WEIGHTS_DIR", str(tmp_path))
    catalog = _catalog(f"{server.url}/good.pth")
    assert find_local("model", catalog=catalog) is None
    assert str(tmp_path / "m.pth") in caplog.text
    assert resolve_weights("model", catalog=catalog) == cache / "m.pth"
    assert (tmp_path / "m.pth").read_bytes() == b"something else"


def test_damaged_file_in_the_cache_is_replaced(server, cache):
    cache.mkdir()
    (cache / "m.pth").write_bytes(CONTENT[:1000])
    path = resolve_weights("model", catalog=_catalog(f"{server.url}/good.pth"))
    assert path.read_bytes() == CONTENT


def test_existing_path_is_given_back_and_wins_over_a_name(tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").write_bytes(b"mine")
    assert resolve_weights("model", catalog=_catalog()).read_bytes() == b"mine"
    assert find_local(tmp_path / "model") == tmp_path / "model"


def test_addresses_that_end_alike_have_files_of_their_own(server, cache):
    urls = [f"{server.url}/{folder}/model_final.pkl" for folder in "ab"]
    paths = [resolve_weights(url) for url in urls]
    assert len(set(paths)) == 2
    assert {path.name for path in paths} == {"model_final.pkl"}
    assert [find_local(url) for url in urls] == paths
    assert len(server.requests) == 2


def test_hash_in_the_name_of_an_address_is_checked(server, cache):
    assert resolve_weights(f"{server.url}/net-{DIGEST[:8]}.pth").read_bytes() == CONTENT
    with pytest.raises(ValueError, match="0123abcd is published"):
        resolve_weights(f"{server.url}/net-0123abcd.pth")


def test_address_of_a_catalog_entry_is_that_entry(cache):
    entry = ModelCatalog.entry("ImageNetPretrained/MSRA/R-50")
    cache.mkdir()
    (cache / entry.file_name).write_bytes(b"weights")
    assert find_local(entry.url) == cache / entry.file_name


def test_catalog_of_maskrcnn_benchmark_s_kind_gives_addresses(server, cache):
    class UserCatalog:
        @staticmethod
        def get(name):
            return f"{server.url}/{name}.pth"

    assert resolve_weights("catalog://mine", catalog=UserCatalog).read_bytes() == CONTENT


def test_unknown_name_says_that_it_is_neither_file_nor_catalog_name(cache):
    with pytest.raises(FileNotFoundError) as error:
        resolve_weights("d2go/mask_rcnn_fbnetv3a_c4")
    assert "there is no file" in str(error.value)
    assert "did you mean d2go/mask_rcnn_fbnetv3a_C4" in str(error.value)
    assert find_local("no/such/name") is None


def test_other_schemes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not an http"):
        transfer.download_file("file:///etc/hostname", tmp_path / "x")


def test_cache_is_below_the_user_s_cache_where_nothing_else_is_said(monkeypatch, tmp_path):
    monkeypatch.delenv("MASKRCNN_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert download.cache_directory() == tmp_path / "maskrcnn_lib"
