"""A report of the environment, for log files and for questions to others."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module, metadata
from pathlib import Path

import torch

from maskrcnn_lib import __version__

_PACKAGE = Path(__file__).resolve().parents[1]
_REQUIRED = ("numpy", "pillow", "yacs", "pycocotools", "tqdm", "opencv-python")
# Distributions that bring the same package as a required one.
_EQUIVALENTS = {
    "opencv-python": (
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    )
}
_OPTIONAL = (
    "matplotlib",
    "av",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "hotcoco",
    "faster-coco-eval",
    "tensorboard",
)
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_HOME", "CUDA_VISIBLE_DEVICES")


def collect_env_info(libraries: Mapping[str, str] | None = None) -> str:
    """Returns a table of versions, devices, threads and settings, one line per entry.

    Args:
        libraries: further rows, name to text: what became of the compiled libraries, which this
            module knows nothing of.
    """
    rows = {
        "maskrcnn_lib": _own_version(),
        "Python": f"{sys.version.split()[0]} ({sys.executable})",
        "platform": platform.platform(),
        "torch": f"{torch.__version__} (CUDA {torch.version.cuda or 'none: CPU only'})",
        "torchvision": _torchvision(),
        **{name: _required(name) for name in _REQUIRED},
        "extras": _present(_OPTIONAL),
        **(libraries or {}),
        "C++ compiler": _tool_version(("c++", "g++", "clang++")),
        "CUDA compiler": _tool_version(("nvcc",)),
        "CUDA arch list": " ".join(torch.cuda.get_arch_list()) or "none",
        "GPUs": _gpus(),
        "CPU": f"{usable_processors()} processors, {torch.backends.cpu.get_cpu_capability()}",
        "threads": f"{torch.get_num_threads()} in operators, "
        f"{torch.get_num_interop_threads()} between operators",
        "settings": _settings(),
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows.items())


def _own_version() -> str:
    checkout = ""
    if (_PACKAGE.parent / ".git").exists() and shutil.which("git"):
        command = ["git", "-C", str(_PACKAGE.parent), "describe", "--always", "--dirty"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        checkout = f", checkout {result.stdout.strip()}" if result.returncode == 0 else ""
    return f"{__version__} in {_PACKAGE}{checkout}"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _required(distribution: str) -> str:
    """Version of a distribution, or version and name of another one that brings its package."""
    version = _version(distribution)
    if version is not None:
        return version
    others = ((name, _version(name)) for name in _EQUIVALENTS.get(distribution, ()))
    found = [f"{version} ({name})" for name, version in others if version is not None]
    return ", ".join(found) or "missing, but required"


def _present(distributions: Iterable[str]) -> str:
    found = {name: _version(name) for name in distributions}
    there = [f"{name} {version}" for name, version in found.items() if version]
    absent = [name for name, version in found.items() if not version]
    return f"{', '.join(there) or 'none'} (not installed: {', '.join(absent) or 'none'})"


def _torchvision() -> str:
    """Version of torchvision, and whether it fits torch: builds that do not fit fail on import."""
    version = _version("torchvision")
    if version is None:
        return "missing, but required"
    try:
        import_module("torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        return f"{version} cannot be imported: {error}; install torch and torchvision together"
    return version


def _tool_version(names: Iterable[str]) -> str:
    """The version line of the first of these programs that is on the PATH."""
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        return "none"
    result = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    lines = [line for line in result.stdout.splitlines() if line.strip()]
    release = next((line for line in lines if "release" in line), lines[0] if lines else "?")
    return f"{path}: {release.strip()}"


def _gpus() -> str:
    if not torch.cuda.is_available():
        return "none"
    gpus = []
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        gigabytes = device.total_memory / 2**30
        gpus.append(f"{device.name} (sm_{device.major}{device.minor}, {gigabytes:.0f} GiB)")
    return "; ".join(gpus)


def usable_processors() -> int:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _settings() -> str:
    names = [*_VARIABLES, *sorted(name for name in os.environ if name.startswith("MASKRCNN_"))]
    return " ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ) or "none"
