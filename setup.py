"""Builds the package and its compiled operators; the metadata stand in pyproject.toml.

Two libraries are built against the LibTorch stable ABI, so that one binary serves every Python and
every torch from 2.11 on: ``_C`` (schemas and CPU kernels) and ``_C_cuda`` (CUDA kernels).

Environment variables:
    MASKRCNN_NO_EXT=1      build neither library; the reference implementations serve
    MASKRCNN_NO_CUDA=1     do not build _C_cuda
    FORCE_CUDA=1           build _C_cuda although this machine has no GPU; fail where it cannot be
    TORCH_CUDA_ARCH_LIST   GPU generations, such as "8.0;9.0+PTX"; default: the GPUs of this
                           machine, or all current generations where it has none. Naming some
                           builds _C_cuda without a GPU, too
    CUDA_HOME              CUDA toolkit; default: the one that nvcc on the PATH belongs to
    NVCC_FLAGS             additional flags for nvcc
    MAX_JOBS               parallel compilers; default: by processors and memory
    DEBUG=1                no optimisation, debug information, checks on
    SANITIZE=address       instrument the CPU library with a sanitizer of the compiler
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from setuptools import Command, Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

try:
    import torch
except ImportError:
    torch = None

ROOT = Path(__file__).resolve().parent
TORCH_TARGET_VERSION = "0x020b000000000000"  # torch 2.11, the oldest that a build runs on
DEFAULT_GPU_GENERATIONS = ("7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0")
BYTES_PER_COMPILER = 2 << 30

TORCH_IS_MISSING = """
torch is not installed in the environment that builds maskrcnn_lib. Do one of these:
  - install it first:  pip install "torch>=2.11" torchvision
    and then:          pip install --no-build-isolation -e .
  - let pip fetch it for the build:  pip install .
  - build without compiled operators:  MASKRCNN_NO_EXT=1 pip install --no-build-isolation .
"""


class BuildError(SystemExit):
    """Ends the build with a message instead of a traceback."""

    def __init__(self, message):
        super().__init__(f"error: {message}")


def flag(name):
    return os.environ.get(name, "0").strip().lower() not in ("", "0", "false", "no", "off")


def sources(pattern):
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc").glob(pattern))


@dataclass(frozen=True)
class Decision:
    """Whether a library is built, and why."""

    library: str
    build: bool
    reason: str


def find_cuda_home():
    """Returns the root of the CUDA toolkit, or None.

    nvcc on the PATH may be a wrapper script in a directory that is no toolkit, so nvcc itself is
    asked where it lives.
    """
    named = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if named:
        if not (Path(named) / "bin" / "nvcc").exists():
            raise BuildError(f"CUDA_HOME={named} has no bin/nvcc: name a toolkit or unset it")
        return Path(named)
    nvcc = shutil.which("nvcc")
    if nvcc:
        dry_run = subprocess.run(
            [nvcc, "--dryrun", "-c", "none.cu"], capture_output=True, text=True, check=False
        )
        home = re.search(r"_HERE_=(.+)", dry_run.stdout + dry_run.stderr)
        directory = Path(home.group(1).strip()) if home else Path(nvcc).resolve().parent
        return directory.parent
    usual = Path("/usr/local/cuda")
    return usual if (usual / "bin" / "nvcc").exists() else None


def nvcc_output(cuda_home, argument):
    command = [str(cuda_home / "bin" / "nvcc"), argument]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def decide_cpu():
    if flag("MASKRCNN_NO_EXT"):
        return Decision("_C", False, "MASKRCNN_NO_EXT is set")
    compilers = [os.environ.get("CXX", "").split(" ")[0], "c++", "g++", "clang++", "cl"]
    compiler = next((found for name in compilers if name and (found := shutil.which(name))), None)
    if compiler is None:
        return Decision("_C", False, "no C++ compiler found; the reference implementations serve")
    return Decision("_C", True, f"compiler {compiler}")


def decide_cuda(cpu, cuda_home):
    if not cpu.build:
        return Decision("_C_cuda", False, "_C is not built")
    if flag("MASKRCNN_NO_CUDA"):
        return Decision("_C_cuda", False, "MASKRCNN_NO_CUDA is set")
    if not sources("cuda/*.cu"):
        return Decision("_C_cuda", False, "there are no CUDA sources")
    if torch is None or torch.version.cuda is None:
        return Decision("_C_cuda", False, "this torch is built without CUDA")
    if cuda_home is None:
        return Decision("_C_cuda", False, "no CUDA toolkit found (nvcc, CUDA_HOME)")
    release = re.search(r"release (\d+)\.(\d+)", nvcc_output(cuda_home, "--version"))
    toolkit = f"{release.group(1)}.{release.group(2)}"
    if release.group(1) != torch.version.cuda.split(".")[0]:
        reason = f"CUDA toolkit {toolkit} does not fit torch's CUDA {torch.version.cuda}"
        return Decision("_C_cuda", False, reason)
    if torch.cuda.device_count() == 0 and not gpu_generations_wanted():
        return Decision("_C_cuda", False, "this machine has no GPU (FORCE_CUDA=1 builds it anyway)")
    return Decision("_C_cuda", True, f"CUDA toolkit {toolkit} in {cuda_home}")


def gpu_generations_wanted():
    return flag("FORCE_CUDA") or bool(os.environ.get("TORCH_CUDA_ARCH_LIST"))


def choose_gpu_generations(cuda_home):
    """Sets TORCH_CUDA_ARCH_LIST where there is neither a list nor a GPU to ask."""
    if os.environ.get("TORCH_CUDA_ARCH_LIST") or torch.cuda.device_count() > 0:
        return
    offered = set(nvcc_output(cuda_home, "--list-gpu-arch").split())
    chosen = [
        generation
        for generation in DEFAULT_GPU_GENERATIONS
        if f"compute_{generation.replace('.', '')}" in offered
    ]
    os.environ["TORCH_CUDA_ARCH_LIST"] = ";".join(chosen) + "+PTX"


def limit_jobs():
    """Sets MAX_JOBS so that the compilers fit into the memory."""
    if os.environ.get("MAX_JOBS") or not hasattr(os, "sched_getaffinity"):
        return
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    jobs = min(len(os.sched_getaffinity(0)), memory // BYTES_PER_COMPILER)
    os.environ["MAX_JOBS"] = str(max(1, jobs))


def put_ninja_on_path():
    """A virtual environment that is not activated has ninja beside its Python only."""
    beside = Path(sys.executable).parent
    if not shutil.which("ninja") and (beside / "ninja").exists():
        os.environ["PATH"] = os.pathsep.join([str(beside), os.environ.get("PATH", "")])


def compiler_flags():
    """Returns flags for the C++ compiler, for nvcc, and for the linker."""
    sanitizer = os.environ.get("SANITIZE", "")
    if flag("DEBUG"):
        cxx, nvcc = ["-O0", "-g", "-UNDEBUG"], ["-O0", "-g", "-G"]
    elif sanitizer:
        cxx, nvcc = ["-O1", "-g"], ["-O3"]
    else:
        cxx, nvcc = ["-O3", "-g0"], ["-O3", "--threads=2"]
    link = []
    if sanitizer:
        cxx += [f"-fsanitize={sanitizer}", "-fno-omit-frame-pointer"]
        link += [f"-fsanitize={sanitizer}"]
    cxx += ["-Wall", "-fvisibility=hidden"]
    nvcc += shlex.split(os.environ.get("NVCC_FLAGS", ""))
    return cxx, nvcc, link


def make_extensions(cpu, cuda, cuda_home):
    if torch is None:
        return [Extension("maskrcnn_lib._C", sources("ops.cpp"))] if cpu.build else []
    from torch.utils import cpp_extension

    cxx, nvcc, link = compiler_flags()
    macros = [("TORCH_TARGET_VERSION", TORCH_TARGET_VERSION)]
    extensions = []
    if cpu.build:
        extensions.append(
            Extension(
                "maskrcnn_lib._C",
                [*sources("ops.cpp"), *sources("cpu/*.cpp")],
                include_dirs=[str(ROOT / "csrc"), *cpp_extension.include_paths()],
                library_dirs=cpp_extension.library_paths(),
                libraries=["torch_cpu"],
                define_macros=macros,
                extra_compile_args={"cxx": cxx},
                extra_link_args=link,
                depends=[*sources("common/*.h"), *sources("cpu/*.h")],
                language="c++",
                py_limited_api=True,
            )
        )
    if cuda.build:
        extensions.append(
            Extension(
                "maskrcnn_lib._C_cuda",
                sources("cuda/*.cu"),
                include_dirs=[
                    str(ROOT / "csrc"),
                    *cpp_extension.include_paths(),
                    str(cuda_home / "include"),
                ],
                library_dirs=[*cpp_extension.library_paths(), str(cuda_home / "lib64")],
                libraries=["torch_cpu", "torch_cuda", "cudart"],
                define_macros=[*macros, ("USE_CUDA", None)],
                extra_compile_args={"nvcc": nvcc},
                extra_link_args=[],
                depends=[*sources("common/*.h"), *sources("cuda/*.h"), *sources("cuda/*.cuh")],
                language="c++",
                py_limited_api=True,
            )
        )
    return extensions


def make_build_command(decisions, cuda_home):
    """Returns torch's build command, extended; where torch is missing, one that says so."""
    if torch is None:

        class BuildWithoutTorch(build_ext):
            def run(self):
                if self.extensions:
                    raise BuildError(TORCH_IS_MISSING)

        return BuildWithoutTorch

    from torch.utils.cpp_extension import BuildExtension

    class BuildOperators(BuildExtension):
        def finalize_options(self):
            super().finalize_options()
            if self.editable_mode:  # setuptools would compile into a directory that it deletes
                self.build_temp = str(ROOT / "build" / "temp.editable")

        def run(self):
            print_decisions(decisions)
            if any(decision.build for decision in decisions):
                limit_jobs()
            if decisions[1].build:
                choose_gpu_generations(cuda_home)
                print(
                    f"GPU generations: {os.environ.get('TORCH_CUDA_ARCH_LIST', 'of this machine')}"
                )
            super().run()

    return BuildOperators


def print_decisions(decisions):
    print(f"maskrcnn_lib: Python {sys.version.split()[0]}, torch {torch.__version__}")
    for decision in decisions:
        answer = "build" if decision.build else "leave out"
        print(f"  {decision.library:8} {answer:10} {decision.reason}")
    sys.stdout.flush()


class PlatformWheel(bdist_wheel):
    """Tags the wheel py3-none-<platform>: the libraries depend on the platform, not on Python."""

    def run(self):
        if not self.skip_build and not self.distribution.have_run.get("build"):
            left_over = Path(self.get_finalized_command("build").build_lib) / "maskrcnn_lib"
            shutil.rmtree(
                left_over, ignore_errors=True
            )  # an earlier build's files would go in, too
        super().run()

    def get_tag(self):
        python, abi, platform = super().get_tag()
        if self.distribution.has_ext_modules():
            return "py3", "none", platform
        return python, abi, platform


class Develop(Command):
    """``python setup.py develop``: an editable install, with the torch that is installed.

    setuptools' own command of this name builds in isolation, against another copy of torch.
    """

    description = "install the package in editable mode"
    user_options: ClassVar[list] = [("no-deps", "N", "don't install dependencies")]
    boolean_options: ClassVar[list] = ["no-deps"]

    def initialize_options(self):
        self.no_deps = False

    def finalize_options(self):
        pass

    def run(self):
        command = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "-e", str(ROOT)]
        subprocess.check_call([*command, *(["--no-deps"] if self.no_deps else [])])


def main():
    put_ninja_on_path()
    cuda_home = None if flag("MASKRCNN_NO_CUDA") else find_cuda_home()
    if cuda_home is not None:
        os.environ["CUDA_HOME"] = str(cuda_home)  # torch's build helper looks here
    cpu = decide_cpu()
    cuda = decide_cuda(cpu, cuda_home)
    if flag("FORCE_CUDA") and not cuda.build:
        raise BuildError(f"FORCE_CUDA is set, but _C_cuda cannot be built: {cuda.reason}")
    setup(
        packages=[
            *find_packages(include=["maskrcnn_lib", "maskrcnn_lib.*"]),
            "maskrcnn_lib.configs",
        ],
        package_dir={"maskrcnn_lib.configs": "configs"},
        package_data={
            "maskrcnn_lib": ["weights/*.safetensors"],
            "maskrcnn_lib.report": ["templates/*"],
            "maskrcnn_lib.configs": ["**/*.yaml"],
        },
        ext_modules=make_extensions(cpu, cuda, cuda_home),
        cmdclass={
            "bdist_wheel": PlatformWheel,
            "build_ext": make_build_command((cpu, cuda), cuda_home),
            "develop": Develop,
        },
        zip_safe=False,
    )


if __name__ == "__main__":
    main()
