"""Reads a file of weights, whatever toolbox wrote it; the content says which, never the name."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from maskrcnn_lib.checkpoint.compact import expand
from maskrcnn_lib.checkpoint.mmengine_files import stand_ins
from maskrcnn_lib.checkpoint.safetensors import is_safetensors, read_safetensors
from maskrcnn_lib.utils.safe_pickle import load_pickle

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
# How torch.save began its files before it wrote zip archives (torch < 1.6): a pickled magic number.
_OLD_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
# What torch says when a file asks for anything but tensors and plain containers.
_REFUSED_GLOBAL = re.compile(r"unsupported (?:global: )?GLOBAL (\S+)", re.IGNORECASE)

_TORCH_LOAD_ERRORS = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def read_checkpoint(path: str | Path) -> Any:
    """Returns what the file holds: dictionaries of tensors or numpy arrays, numbers and strings.

    Files of ``torch.save`` are read with ``weights_only=True`` onto the CPU; safetensors as bytes,
    with 8-bit weights restored; pickles through the allow-list of ``safe_pickle``. Nothing that a
    file asks for is run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or is no file of weights; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of weights at {path}")
    with path.open("rb") as file:
        head = file.read(len(_OLD_TORCH))
    if head.startswith(_ZIP) or head == _OLD_TORCH:
        return _read_torch(path)
    if is_safetensors(head):
        return expand(read_safetensors(path))
    if head.startswith(_PICKLE):
        return load_pickle(path)
    raise ValueError(
        f"{path} is neither torch.save nor safetensors nor a pickle of arrays: it begins with "
        f"{head[:8]!r}; delete it and fetch it again, or convert it to a torch.save of "
        "{name: tensor}"
    )


def _read_torch(path: Path) -> Any:
    if _is_torchscript(path):
        raise ValueError(
            f"{path} is a TorchScript program, not a file of weights: load it with torch.jit.load "
            "and store its weights with torch.save(program.state_dict(), path)"
        )
    try:
        with stand_ins(path):
            return torch.load(path, map_location="cpu", weights_only=True)
    except _TORCH_LOAD_ERRORS as error:
        refused = _REFUSED_GLOBAL.search(str(error))
        if refused:
            raise ValueError(
                f"{path} is refused: it asks for {refused[1]}, and a file of weights holds tensors "
                "alone. If you trust where it came from, read it in a program of your own and "
                "store the weights with torch.save(model.state_dict(), path)"
            ) from None
        reason = str(error).strip().partition(". ")[0] or type(error).__name__
        raise ValueError(
            f"{path} cannot be read as a file of tensors ({reason}); it is damaged or incomplete, "
            "delete it and fetch it again"
        ) from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
