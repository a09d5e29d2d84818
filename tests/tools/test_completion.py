"""Shells complete what the commands take."""

import shutil
import subprocess
import sys

import pytest

from maskrcnn_lib.tools import cli
from maskrcnn_lib.tools.completion import completion_script

shtab = pytest.importorskip("shtab")


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "maskrcnn"
    path.write_text(completion_script("bash"))
    return path


def completed(script, *words):
    """What bash offers for the last of the words."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    lines = [
        f"source {script}",
        f"COMP_WORDS=({' '.join(repr(word) for word in ('maskrcnn', *words))})",
        f"COMP_CWORD={len(words)}",
        "_shtab_maskrcnn maskrcnn",
        'printf "%s\\n" "${COMPREPLY[@]}"',
    ]
    call = ["bash", "--norc", "-c", "\n".join(lines)]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout.split()


def test_bash_completes_sub_commands(bash_script):
    assert set(completed(bash_script, "")) >= set(cli.COMMANDS)
    assert completed(bash_script, "check-") == ["check-dataset"]


def test_bash_completes_options_of_the_sub_command(bash_script):
    assert set(completed(bash_script, "predict", "--conf")) == {"--confidence", "--config-file"}
    assert completed(bash_script, "train", "--skip") == ["--skip-test"]


def test_bash_completes_models_formats_and_config_keys(bash_script):
    model = "torchvision/maskrcnn_resnet50_fpn"
    assert model in completed(bash_script, "test", "--model", "torchvision/mask")
    assert completed(bash_script, "export", "--format", "on") == ["onnx"]
    words = ("train", "--config-file", "f", "SOLVER.BASE")
    assert completed(bash_script, *words) == ["SOLVER.BASE_LR"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_know_all_sub_commands_and_their_own_syntax(shell):
    script = completion_script(shell)
    assert all(name in script for name in cli.COMMANDS) and "SOLVER.BASE_LR" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n", "/dev/stdin"], input=script, text=True, check=True)


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert cli.main(["completion", "bash"]) == 1
    assert "pip install maskrcnn_lib[completion]" in capsys.readouterr().err
