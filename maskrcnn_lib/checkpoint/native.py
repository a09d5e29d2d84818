"""Our own checkpoint files: a dictionary of plain values, written atomically by torch.save.

Keys: ``format`` (the marker), ``format_version``, ``model`` (parameter name -> tensor),
``class_names`` (one per label, the background first; or None), ``config`` (the resolved
configuration as YAML), and whatever the writer adds (optimizer, scheduler, iteration).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from maskrcnn_lib.utils.writing import named_errors

Buffer = bytes | memoryview

FORMAT = "maskrcnn_lib"
FORMAT_VERSION = 1
KEYS = frozenset(("format", "format_version", "model", "class_names", "config"))
"""The keys that the format itself uses."""


def bare_model(model: nn.Module) -> nn.Module:
    """Returns the model inside the wrappers of distributed training and torch.compile."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod
        else:
            return model


def is_native(content: Mapping[str, Any]) -> bool:
    """Tells whether this is the content of a file that ``save_weights`` wrote."""
    return content.get("format") == FORMAT and isinstance(content.get("model"), Mapping)


def stored_dialect(content: Mapping[str, Any]) -> str | None:
    """Returns ``MODEL.DIALECT`` of the configuration in such a file; None where there is none."""
    try:
        return yaml.safe_load(content["config"])["MODEL"]["DIALECT"]
    except (KeyError, TypeError, yaml.YAMLError):
        return None


def weights_of(model: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters and buffers by name, of a model in any wrappers or given so already."""
    state = bare_model(model).state_dict() if isinstance(model, nn.Module) else model
    return {name: tensor.detach().contiguous() for name, tensor in state.items()}


def save_weights(
    model: nn.Module | Mapping[str, Tensor],
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    config: str = "",
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Writes weights in the native format.

    Args:
        model: any module; wrappers of distributed training and torch.compile are looked through.
            Or tensors by name.
        path: the file; its folder is created. An interrupted write leaves an older file whole.
        class_names: one name per label, the background first.
        config: the configuration as YAML text.
        extra: more entries of plain values and tensors (optimizer state, iteration).

    Raises:
        ValueError: ``extra`` contains a key that the format itself uses.
    """
    taken = sorted(KEYS & (extra or {}).keys())
    if taken:
        raise ValueError(f"the keys {taken} belong to the checkpoint format; choose other names")
    content: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": weights_of(model),
        "class_names": None if class_names is None else list(class_names),
        "config": config,
    }
    write_atomically(Path(path), {**content, **(extra or {})})


def write_atomically(path: Path, content: Mapping[str, Any] | str | Sequence[Buffer]) -> None:
    """Writes a text, pieces of bytes or a torch.save, so that ``path`` is either old or new.

    The data goes to another file in the same folder, reaches the disk, and takes the name then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with named_errors(path), temporary.open("wb") as file:
            if isinstance(content, Mapping):
                torch.save(dict(content), file)
            else:
                file.writelines([content.encode()] if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Makes the new name itself durable, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
