"""Training files of mmengine (mmdetection 3), which hold its own objects beside the weights.

The log of the losses lies in them as pickled ``HistoryBuffer`` with numpy arrays, which torch
refuses with ``weights_only=True``. Nobody needs the log here: inert objects take the place of all
that it consists of, and none of mmengine's or numpy's code runs.
"""

import zipfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

_MARKER = "mmengine."
_NUMPY = ("ndarray", "dtype")
_NUMPY_MAKERS = ("_reconstruct", "scalar")
_KNOWN = frozenset(
    (
        "mmengine.logging.history_buffer.HistoryBuffer",
        "builtins.getattr",  # which functions the log is read with
        *(f"numpy.{name}" for name in _NUMPY),
        *(f"numpy.core.multiarray.{name}" for name in _NUMPY_MAKERS),
        *(f"numpy._core.multiarray.{name}" for name in _NUMPY_MAKERS),
    )
)


class Inert:
    """Stands for an object that nobody needs: takes any arguments and state, and keeps nothing."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def stand_ins(path: Path) -> AbstractContextManager[Any]:
    """While it is entered, ``torch.load(weights_only=True)`` reads such a training file.

    Args:
        path: a file of ``torch.save``. For others than mmengine's, and for those that ask for
            anything but the known objects of its log, nothing changes: torch refuses the file.
    """
    if not zipfile.is_zipfile(path):
        return nullcontext()
    asked = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    if not asked <= _KNOWN or not any(name.startswith(_MARKER) for name in asked):
        return nullcontext()
    return torch.serialization.safe_globals([(Inert, name) for name in asked])
