"""Config keys at the end of a command line are told apart from its own arguments."""

import pytest

from maskrcnn_lib.tools.cli import COMMANDS, main, split_overrides

_MODEL = ("--config-file", "x.yaml")
# What a command's own arguments are at least.
REQUIRED = {
    **{name: () for name in COMMANDS},
    **{name: ("x.json",) for name in ("predict", "video", "eval", "show", "report")},
    **{name: _MODEL for name in ("test", "train", "flops")},
    "proposals": (*_MODEL, "--json", "x.json", "--images", "x", "--output", "x.npz"),
    "convert-weights": ("x.pth", "y.pth"),
    "export": (*_MODEL, "--output", "x.onnx"),
}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a.jpg", "--model", "X", "MODEL.DEVICE", "cpu"], ["MODEL.DEVICE", "cpu"]),
        (["a.jpg", "DTYPE", "bfloat16"], ["DTYPE", "bfloat16"]),
        (["--format", "png", "json", "TEST.IMS_PER_BATCH", "1"], ["TEST.IMS_PER_BATCH", "1"]),
        (["--weights", "WEIGHTS", "a.jpg"], []),
    ],
)
def test_overrides_begin_at_the_first_config_key(arguments, expected):
    before, overrides = split_overrides(arguments)
    assert overrides == expected
    assert [*before, *overrides] == arguments


def test_keys_may_follow_an_option_without_value():
    given = ["--resume", "SOLVER.MAX_ITER", "9"]
    assert split_overrides(given, ["--resume"]) == (["--resume"], given[1:])


def test_train_takes_keys_after_resume(capsys):
    command = ["train", "--config-file", "d2go/mask_rcnn_fbnetv3a_C4", "--resume"]
    with pytest.raises(SystemExit, match="2"):
        main([*command, "SOLVER.MAX_ITR", "9"])
    assert "MAX_ITER" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name, c in COMMANDS.items() if c.takes_keys])
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["SOLVER.MAX_ITR", "9"], "unknown config key SOLVER.MAX_ITR; did you mean SOLVER.MAX_"),
        (["SOLVER.MAX_ITER"], "KEY VALUE pairs"),
        (["SOLVER.MAX_ITER", "many"], "SOLVER.MAX_ITER: expected int"),
    ],
)
def test_wrong_keys_are_wrong_usage_of_every_command(name, keys, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([name, *REQUIRED[name], *keys])
    assert message in capsys.readouterr().err


def test_a_file_written_like_a_key_is_a_file(tmp_path, monkeypatch):
    (tmp_path / "IMG_1.JPG").touch()
    monkeypatch.chdir(tmp_path)
    assert split_overrides(["IMG_1.JPG", "b.png"]) == (["IMG_1.JPG", "b.png"], [])
