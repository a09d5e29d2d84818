"""Loading of the compiled libraries, and what happens without them."""

import os
import subprocess
import sys
import threading
import warnings

import pytest
import torch

from maskrcnn_lib.layers import _library
from maskrcnn_lib.layers._library import LibraryStatus


@pytest.fixture
def missing(monkeypatch, tmp_path):
    """A fresh loader that finds no library."""
    monkeypatch.setenv("MASKRCNN_LIBRARY_DIR", str(tmp_path))
    monkeypatch.delenv("MASKRCNN_REQUIRE_OPS", raising=False)
    libraries = _library._Libraries()
    monkeypatch.setattr(_library, "_libraries", libraries)
    return libraries


def _pretend(libraries, monkeypatch, *, cpu, cuda):
    files = {"_C": LibraryStatus(None, cpu, "cpu"), "_C_cuda": LibraryStatus(None, cuda, "cuda")}
    monkeypatch.setattr(_library, "_load_file", files.__getitem__)
    return libraries


def test_missing_library_warns_once_and_names_directory_and_remedy(missing, tmp_path):
    with pytest.warns(RuntimeWarning, match="pip install") as caught:
        assert not _library.ops_available()
    assert str(tmp_path) in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not _library.ops_available()


def test_missing_library_is_an_error_where_it_is_required(missing, monkeypatch):
    monkeypatch.setenv("MASKRCNN_REQUIRE_OPS", "1")
    with pytest.raises(ImportError, match="_C is not in use: there is no file"):
        _library.ops_available()


def test_status_of_a_missing_library_does_not_warn(missing, monkeypatch):
    monkeypatch.setenv("MASKRCNN_REQUIRE_OPS", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        status = _library.load_status()
    assert not status["_C"].loaded
    assert status["_C_cuda"].reason == "_C is not loaded"


def test_broken_library_is_named_with_the_loader_s_reason(missing, tmp_path):
    (tmp_path / "_C.abi3.so").write_bytes(b"not a library")
    status = _library.load_status()["_C"]
    assert status.path == tmp_path / "_C.abi3.so"
    assert not status.loaded
    assert "cannot be loaded" in status.reason


def test_cuda_library_matters_on_cuda_only(missing, monkeypatch):
    _pretend(missing, monkeypatch, cpu=True, cuda=False)
    assert _library.ops_available()
    assert _library.ops_available(torch.device("cpu"))
    with pytest.warns(RuntimeWarning, match="FORCE_CUDA"):
        assert not _library.ops_available(torch.device("cuda"))
    assert not _library.cuda_ops_available()


def test_callbacks_run_once_before_and_at_once_after_loading(missing, monkeypatch):
    _pretend(missing, monkeypatch, cpu=True, cuda=False)
    calls = []
    _library.on_load(lambda: calls.append("before"))
    assert calls == []
    assert _library.ops_available()
    assert _library.ops_available()
    _library.on_load(lambda: calls.append("after"))
    assert calls == ["before", "after"]


def test_callbacks_do_not_run_without_library(missing):
    calls = []
    _library.on_load(lambda: calls.append("before"))
    _library.load_status()
    _library.on_load(lambda: calls.append("after"))
    assert calls == []


def test_library_without_a_schema_that_is_needed_is_not_used(missing, monkeypatch):
    _pretend(missing, monkeypatch, cpu=True, cuda=True)

    def register():
        raise RuntimeError("operator maskrcnn::new does not exist")

    _library.on_load(register)
    status = _library.load_status()
    assert not status["_C"].loaded
    assert "maskrcnn::new" in status["_C"].reason
    assert not status["_C_cuda"].loaded


def test_threads_load_once(missing, monkeypatch):
    _pretend(missing, monkeypatch, cpu=True, cuda=False)
    calls = []
    _library.on_load(lambda: calls.append(threading.get_ident()))
    barrier = threading.Barrier(8)

    def use():
        barrier.wait()
        _library.ops_available()

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_compiled_code_asks_for_operators_without_graph_break():
    def double(x):
        return x * 2 if _library.ops_available(x.device) in (True, False) else x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        compiled = torch.compile(double, fullgraph=True, backend="eager")
        assert torch.equal(compiled(torch.ones(2)), torch.full((2,), 2.0))


@pytest.mark.skipif(not _library.load_status()["_C"].loaded, reason="_C is not built")
def test_compiled_library_defines_the_operators_namespace():
    code = (
        "import torch; from maskrcnn_lib.layers._library import ops_available;"
        "assert ops_available(); print(sorted(torch.ops.loaded_libraries))"
    )
    environment = {**os.environ, "MASKRCNN_REQUIRE_OPS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert "_C.abi3.so" in result.stdout
