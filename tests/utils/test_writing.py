"""Errors of writing name the file."""

import errno
from pathlib import Path

import pytest
import torch

from maskrcnn_lib.utils.writing import named_errors

FULL = Path("/dev/full")  # writes to it fail as on a full disk


@pytest.mark.skipif(not FULL.exists(), reason="needs Linux' /dev/full")
@pytest.mark.parametrize("write", [lambda f: f.write(b"x" * 10**6), lambda f: torch.save([1], f)])
def test_full_disk_names_the_file(write):
    with pytest.raises(OSError, match=r"No space left on device: 'model\.pth'") as caught:
        with named_errors("model.pth"), FULL.open("wb", buffering=0) as file:
            write(file)
    assert caught.value.errno == errno.ENOSPC


def test_other_errors_pass_as_they_are():
    with pytest.raises(RuntimeError, match="mine"), named_errors("model.pth"):
        raise RuntimeError("mine")
    with pytest.raises(FileNotFoundError, match="elsewhere"), named_errors("model.pth"):
        Path("elsewhere").read_bytes()
