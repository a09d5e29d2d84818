"""Config keys at the end of a command line are told apart from its own arguments."""

import pytest

from maskrcnn_lib.tools.cli import split_overrides


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


def test_a_file_written_like_a_key_is_a_file(tmp_path, monkeypatch):
    (tmp_path / "IMG_1.JPG").touch()
    monkeypatch.chdir(tmp_path)
    assert split_overrides(["IMG_1.JPG", "b.png"]) == (["IMG_1.JPG", "b.png"], [])
