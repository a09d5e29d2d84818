"""setup.py: what it decides to build, and what ends up in a package."""

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from maskrcnn_lib.layers._library import load_status

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="not a checkout")


@pytest.fixture
def setup_script(monkeypatch):
    for name in ("CUDA_HOME", "CUDA_PATH", "FORCE_CUDA", "TORCH_CUDA_ARCH_LIST"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MASKRCNN_NO_EXT", "MASKRCNN_NO_CUDA", "DEBUG", "SANITIZE", "NVCC_FLAGS"):
        monkeypatch.delenv(name, raising=False)
    spec = importlib.util.spec_from_file_location("setup_script", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "setup_script", module)  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def _program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def toolkit(tmp_path, monkeypatch, setup_script):
    """A CUDA toolkit whose nvcc answers as the real one does; nothing else is on the PATH."""
    home = tmp_path / "toolkit"
    _program(
        home / "bin" / "nvcc",
        f"""case "$1" in
        --dryrun) echo "#$ _HERE_={home}/bin" >&2 ;;
        --version) echo "Cuda compilation tools, release 13.0, V13.0.88" ;;
        --list-gpu-arch) echo compute_80; echo compute_90; echo compute_121 ;;
        esac""",
    )
    monkeypatch.setattr(setup_script.torch.version, "cuda", "13.2")
    monkeypatch.setattr(setup_script.torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(setup_script, "sources", lambda pattern: [f"csrc/{pattern}"])
    return home


def test_toolkit_is_found_behind_a_wrapper_script(setup_script, toolkit, tmp_path, monkeypatch):
    wrapper = _program(tmp_path / "local" / "bin" / "nvcc", f'exec {toolkit}/bin/nvcc "$@"')
    monkeypatch.setenv("PATH", str(wrapper.parent), prepend=os.pathsep)
    assert setup_script.find_cuda_home() == toolkit


def test_named_toolkit_goes_first(setup_script, toolkit, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(toolkit))
    assert setup_script.find_cuda_home() == toolkit


def test_named_toolkit_that_is_none_is_an_error(setup_script, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(SystemExit, match="has no bin/nvcc"):
        setup_script.find_cuda_home()


def test_cuda_library_is_left_out_without_gpu_unless_asked_for(setup_script, toolkit, monkeypatch):
    cpu = setup_script.decide_cpu()
    assert cpu.build
    decision = setup_script.decide_cuda(cpu, toolkit)
    assert not decision.build
    assert "FORCE_CUDA=1" in decision.reason
    monkeypatch.setenv("FORCE_CUDA", "1")
    assert setup_script.decide_cuda(cpu, toolkit).build


def test_cuda_library_is_left_out_where_versions_do_not_fit(setup_script, toolkit, monkeypatch):
    monkeypatch.setenv("FORCE_CUDA", "1")
    monkeypatch.setattr(setup_script.torch.version, "cuda", "12.8")
    decision = setup_script.decide_cuda(setup_script.decide_cpu(), toolkit)
    assert (decision.build, decision.reason) == (
        False,
        "CUDA toolkit 13.0 does not fit torch's CUDA 12.8",
    )


def test_gpu_generations_have_a_default_without_gpu(setup_script, toolkit, monkeypatch):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "")  # restored after the test
    setup_script.choose_gpu_generations(toolkit)
    assert os.environ["TORCH_CUDA_ARCH_LIST"] == "8.0;9.0+PTX"


def test_no_compiler_leaves_the_reference_implementations(setup_script, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    decision = setup_script.decide_cpu()
    assert not decision.build
    assert "no C++ compiler" in decision.reason


def _run_setup(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "setup.py", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        check=False,
    )


def test_metadata_need_no_torch_and_a_build_says_what_to_do(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('no torch here')")
    version = _run_setup("--version", PYTHONPATH=str(tmp_path))
    assert version.returncode == 0, version.stderr
    build = _run_setup("build_ext", "--build-lib", str(tmp_path / "lib"), PYTHONPATH=str(tmp_path))
    assert build.returncode != 0
    assert 'pip install "torch>=2.11" torchvision' in build.stderr


def test_forced_cuda_that_cannot_be_built_is_an_error():
    result = _run_setup("--version", FORCE_CUDA="1", MASKRCNN_NO_CUDA="1")
    assert result.returncode != 0
    assert "MASKRCNN_NO_CUDA is set" in result.stderr


def test_classic_develop_command_is_ours():
    result = _run_setup("develop", "--help")
    assert result.returncode == 0, result.stderr
    assert "--no-deps" in result.stdout
    assert "index-url" not in result.stdout  # an option of setuptools' own command


@pytest.mark.slow
def test_wheel_finds_objects_by_itself(tmp_path):
    command = "pip wheel --no-build-isolation --no-deps -w dist ."
    assert f"`{command}`" in (ROOT / "INSTALL.md").read_text()
    words = command.replace("dist", str(tmp_path)).split()
    environment = {**os.environ, "MASKRCNN_NO_EXT": "1", "MASKRCNN_REQUIRE_OPS": "0"}
    subprocess.run([sys.executable, "-m", *words], cwd=ROOT, env=environment, check=True)
    (wheel,) = tmp_path.glob("maskrcnn_lib-*-py3-none-any.whl")
    shutil.unpack_archive(wheel, tmp_path / "site", "zip")
    shutil.copy(ROOT / "demo" / "images" / "chelsea.jpg", tmp_path)
    environment |= {"PYTHONPATH": str(tmp_path / "site"), "MASKRCNN_WEIGHTS_DIR": ""}
    words = ["-m", "maskrcnn_lib.tools.cli", "predict", "chelsea.jpg", "--output", "found"]
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert "chelsea.jpg: cat" in done.stdout, done.stderr
    assert "compiled library _C is not in use" in done.stderr


def test_package_carries_modules_configs_weights_and_templates(tmp_path):
    result = _run_setup("build_py", "--build-lib", str(tmp_path), MASKRCNN_NO_EXT="1")
    assert result.returncode == 0, result.stderr
    configs = {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml")}
    packed = tmp_path / "maskrcnn_lib" / "configs"
    assert {path.relative_to(packed) for path in packed.rglob("*.yaml")} == configs
    weights = {path.name for path in (ROOT / "maskrcnn_lib" / "weights").iterdir()}
    assert weights == {path.name for path in (tmp_path / "maskrcnn_lib" / "weights").iterdir()}
    templates = Path("maskrcnn_lib", "report", "templates")
    pages = {path.name for path in (ROOT / templates).iterdir()}
    assert pages == {path.name for path in (tmp_path / templates).iterdir()}
    modules = {path.relative_to(ROOT) for path in (ROOT / "maskrcnn_lib").rglob("*.py")}
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*.py")} == modules


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
@pytest.mark.skipif(not load_status()["_C"].loaded, reason="_C is not built")
def test_libraries_need_no_cpp_symbol_of_torch():
    libraries = [str(status.path) for status in load_status().values() if status.loaded]
    command = [str(ROOT / ".ci" / "check_symbols"), *libraries]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("needs no C++ symbol") == len(libraries)


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
def test_library_that_needs_a_cpp_symbol_of_torch_is_refused():
    torch_library = Path(torch.__file__).parent / "lib" / "libtorch_python.so"
    result = subprocess.run(
        [str(ROOT / ".ci" / "check_symbols"), str(torch_library)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "needs the C++ symbols" in result.stderr
