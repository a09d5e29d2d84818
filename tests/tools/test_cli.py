"""The console script: which sub-command runs, and what wrong usage says."""

import importlib
import subprocess
import sys
import types

import pytest

import maskrcnn_lib
from maskrcnn_lib.tools import cli


@pytest.fixture
def command(monkeypatch):
    """A sub-command ``show`` that runs the function put into it."""
    module = types.ModuleType("show_module")
    module.add_arguments = lambda parser: parser.add_argument("number", type=int)
    module.run = lambda args: args.number
    monkeypatch.setitem(sys.modules, "show_module", module)
    monkeypatch.setattr(cli, "COMMANDS", {"show": cli.Command("show_module", "show a number")})
    return module


def test_exit_code_is_the_sub_command_s(command):
    assert cli.main(["show", "5"]) == 5


@pytest.mark.parametrize("error", [ValueError, FileNotFoundError, KeyError])
def test_error_of_the_user_is_one_line_and_exit_1(command, error, capsys):
    def fail(args):
        raise error("no weights there")

    command.run = fail
    assert cli.main(["show", "5"]) == 1
    assert f"maskrcnn show: {error.__name__}: no weights there" in capsys.readouterr().err


def _raise(error):
    raise error


@pytest.mark.parametrize("name", cli.COMMANDS)
@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (None, 0, ""),
        (FileNotFoundError("there is no a.json"), 1, "FileNotFoundError: there is no a.json"),
        (KeyboardInterrupt("3 are done"), 130, "interrupted: 3 are done"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_every_command_ends_by_one_rule(name, error, code, message, monkeypatch, capfd):
    """The command's own work aside; ``capfd`` holds the stream that the rule closes."""
    module = importlib.import_module(cli.COMMANDS[name].module)
    monkeypatch.setattr(module, "run", lambda args: _raise(error) if error else 0)
    monkeypatch.setattr(module, "add_arguments", lambda parser: None)
    assert cli.main([name]) == code
    errors = capfd.readouterr().err
    assert errors.startswith(f"maskrcnn {name}: {message}" if message else "")
    assert bool(errors) == bool(message)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_refuses_options_that_it_does_not_have(name, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main([name, "--nonsense"])
    errors = capsys.readouterr().err
    assert f"usage: maskrcnn {name}" in errors


def test_a_reader_that_ends_early_is_no_error():
    """As in ``maskrcnn config | head -1``."""
    command = [sys.executable, "-m", "maskrcnn_lib.tools.cli", "config", "--reference"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_traceback_of_a_user_error_on_request(command, monkeypatch):
    def fail(args):
        raise ValueError("deep")

    command.run = fail
    monkeypatch.setenv("MASKRCNN_TRACEBACK", "1")
    with pytest.raises(ValueError, match="deep"):
        cli.main(["show", "5"])


def test_unknown_sub_command_names_its_neighbour(capsys):
    assert cli.main(["chekcs"]) == 2
    assert "did you mean 'checks'?" in capsys.readouterr().err


def test_hopeless_sub_command_lists_all(capsys):
    assert cli.main(["zzz"]) == 2
    assert "choose from predict, video, test" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--help"], 0), (["-h"], 0)])
def test_help_lists_sub_commands(arguments, code, capsys):
    assert cli.main(arguments) == code
    text = capsys.readouterr().out
    assert all(name in text and command.summary in text for name, command in COMMANDS.items())


COMMANDS = dict(cli.COMMANDS)


def test_help_of_each_sub_command_is_plain_text_and_says_whether_keys_may_follow(capsys):
    for name, command in COMMANDS.items():
        with pytest.raises(SystemExit):
            cli.main([name, "--help"])
        text = capsys.readouterr().out
        assert f"`maskrcnn {name}`:" in text and "``" not in text
        assert ("KEY VALUE" in text) == command.takes_keys


def test_unknown_option_names_its_neighbour(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["predict", "photo.jpg", "--confidance", "0.5"])
    assert "--confidance 0.5; did you mean --confidence?" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_sub_command_ends_with_examples(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main([name, "--help"])
    _, _, end = capsys.readouterr().out.partition("\nexamples:\n")
    assert end.startswith(f"  maskrcnn {name}")


def test_words_in_capitals_are_words_where_no_keys_may_follow(capsys):
    assert cli.main(["models", "FPN", "NOTHING"]) == 1
    assert "no model's line contains FPN and NOTHING" in capsys.readouterr().out


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"maskrcnn_lib {maskrcnn_lib.__version__}\n"


def test_module_runs_like_the_script():
    command = [sys.executable, "-m", "maskrcnn_lib.tools.cli", "checks"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "_C_cuda" in result.stdout


def test_checks_exit_code_says_whether_operators_are_in_use(monkeypatch, tmp_path, capsys):
    from maskrcnn_lib.layers import _library

    monkeypatch.setenv("MASKRCNN_LIBRARY_DIR", str(tmp_path))
    monkeypatch.setattr(_library, "_libraries", _library._Libraries())
    assert cli.main(["checks"]) == 0
    assert cli.main(["checks", "--require-ops"]) == 1
    assert f"there is no file _C.abi3.so in {tmp_path}" in capsys.readouterr().out


def test_operators_that_are_required_and_missing_are_named_without_a_traceback(
    monkeypatch, tmp_path, capsys
):
    from maskrcnn_lib.layers import _library

    def run(args):
        _library.ops_available()

    monkeypatch.setenv("MASKRCNN_LIBRARY_DIR", str(tmp_path))
    monkeypatch.setenv("MASKRCNN_REQUIRE_OPS", "1")
    monkeypatch.setattr(_library, "_libraries", _library._Libraries())
    monkeypatch.setattr("maskrcnn_lib.tools.checks.run", run)
    assert cli.main(["checks"]) == 1
    assert "ImportError: maskrcnn_lib's compiled library _C" in capsys.readouterr().err
