"""Loads the compiled operators, once, on the first use of one of them.

``_C`` holds the operators' schemas and CPU kernels, ``_C_cuda`` the CUDA kernels. Where a library
is missing or cannot be loaded, the reference implementations in plain PyTorch serve, and one
warning says why.

Environment variables:
    MASKRCNN_REQUIRE_OPS=1   a missing library is an ImportError instead of a warning
    MASKRCNN_LIBRARY_DIR     directory to look in instead of the package's own
"""

import os
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

CPU_LIBRARY = "_C"
CUDA_LIBRARY = "_C_cuda"
_SUFFIXES = (".abi3.so", ".so", ".dylib", ".pyd")
_PACKAGE = Path(__file__).resolve().parents[1]
_BUILD = "`pip install --no-build-isolation -e .` in a checkout of maskrcnn_lib"
_HOW_TO_BUILD = {
    CPU_LIBRARY: f"{_BUILD} builds it",
    CUDA_LIBRARY: f"{_BUILD}, with FORCE_CUDA=1 on a machine that has nvcc but no GPU, builds it",
}


@dataclass(frozen=True)
class LibraryStatus:
    """What became of one library.

    Attributes:
        path: the file, or None where there is none.
        loaded: whether its operators can be used.
        reason: why it is not loaded; empty where it is.
    """

    path: Path | None
    loaded: bool
    reason: str


class _Libraries:
    """State of both libraries: loaded at most once, whichever thread comes first."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._status: dict[str, LibraryStatus] | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._warned: set[str] = set()

    def status(self) -> dict[str, LibraryStatus]:
        if self._status is None:
            with self._lock:
                if self._status is None:
                    self._status = self._load()
        return self._status

    def on_load(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if self._status is None:
                self._callbacks.append(callback)
                return
        if self._status[CPU_LIBRARY].loaded:
            callback()

    def usable(self, name: str) -> bool:
        status = self.status()[name]
        if status.loaded:
            return True
        message = f"maskrcnn_lib's compiled library {name} is not in use: {status.reason}"
        if os.environ.get("MASKRCNN_REQUIRE_OPS", "0") not in ("", "0"):
            raise ImportError(f"{message}; {_HOW_TO_BUILD[name]}. MASKRCNN_REQUIRE_OPS is set.")
        with self._lock:
            first = name not in self._warned
            self._warned.add(name)
        if first:
            consequence = "Slow reference implementations serve instead."
            text = f"{message}; {_HOW_TO_BUILD[name]}. {consequence}"
            warnings.warn(text, RuntimeWarning, stacklevel=4)
        return False

    def _load(self) -> dict[str, LibraryStatus]:
        cpu = _load_file(CPU_LIBRARY)
        if cpu.loaded:
            try:
                for callback in self._callbacks:
                    callback()
            except RuntimeError as error:  # a schema that the library does not have
                reason = f"it does not fit this version of the package, build it again ({error})"
                cpu = LibraryStatus(cpu.path, False, reason)
        if cpu.loaded:
            cuda = _load_file(CUDA_LIBRARY)
        else:
            cuda = LibraryStatus(_find(CUDA_LIBRARY), False, f"{CPU_LIBRARY} is not loaded")
        return {CPU_LIBRARY: cpu, CUDA_LIBRARY: cuda}


def _find(name: str) -> Path | None:
    directory = Path(os.environ.get("MASKRCNN_LIBRARY_DIR") or _PACKAGE)
    candidates = (directory / f"{name}{suffix}" for suffix in _SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _load_file(name: str) -> LibraryStatus:
    path = _find(name)
    if path is None:
        directory = os.environ.get("MASKRCNN_LIBRARY_DIR") or _PACKAGE
        return LibraryStatus(None, False, f"there is no file {name}{_SUFFIXES[0]} in {directory}")
    try:
        torch.ops.load_library(str(path))
    except (OSError, RuntimeError) as error:
        return LibraryStatus(path, False, f"{path} cannot be loaded: {error}")
    return LibraryStatus(path, True, "")


_libraries = _Libraries()


def ops_available(device: torch.device | None = None) -> bool:
    """Whether the compiled operators serve on ``device`` (default: the CPU); loads them.

    Warns once per library where they do not.

    Raises:
        ImportError: they do not, and MASKRCNN_REQUIRE_OPS is set.
    """
    if not _libraries.usable(CPU_LIBRARY):
        return False
    return device is None or device.type != "cuda" or _libraries.usable(CUDA_LIBRARY)


def cuda_ops_available() -> bool:
    """Whether the compiled operators serve on CUDA; as ``ops_available`` otherwise."""
    return _libraries.usable(CPU_LIBRARY) and _libraries.usable(CUDA_LIBRARY)


def load_status() -> dict[str, LibraryStatus]:
    """Loads the libraries and returns what became of ``_C`` and ``_C_cuda``; never warns."""
    return dict(_libraries.status())


def on_load(callback: Callable[[], None]) -> None:
    """Calls ``callback`` once the schemas exist: now, or when the library is loaded, or never.

    Fake kernels and autograd formulas are registered this way, because the schemas they belong to
    stand in the library. A RuntimeError in it marks the library as one that does not fit.
    """
    _libraries.on_load(callback)


# torch.compile evaluates these while it traces, instead of tracing into them: the answer never
# changes within a process. (The public decorator for this would import torch._dynamo here.)
ops_available._dynamo_marked_constant = True  # type: ignore[attr-defined]
cuda_ops_available._dynamo_marked_constant = True  # type: ignore[attr-defined]
