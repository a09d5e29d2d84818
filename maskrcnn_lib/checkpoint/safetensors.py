"""Weights as safetensors: a JSON table of names, types, shapes and places, then the raw bytes.

The format runs nothing when it is read, and other tools know it. It is small enough to be written
here: 8 bytes with the length of the table (little endian), the table, the data. Metadata are text:
``format``, ``format_version``, ``class_names`` (JSON) and ``config`` (YAML).
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskrcnn_lib.checkpoint import native

_LENGTH_BYTES = 8
_MAX_HEADER = 100 << 20
_ALIGNMENT = 8
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def save_safetensors(
    model: nn.Module | Mapping[str, Tensor],
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    config: str = "",
) -> None:
    """Writes weights, atomically; arguments as for ``native.save_weights``."""
    metadata = {
        "format": native.FORMAT,
        "format_version": str(native.FORMAT_VERSION),
        "class_names": json.dumps(None if class_names is None else list(class_names)),
        "config": config,
    }
    tensors = {name: tensor.cpu() for name, tensor in native.weights_of(model).items()}
    table: dict[str, Any] = {"__metadata__": metadata}
    start = 0
    for name, tensor in tensors.items():
        end = start + tensor.numel() * tensor.element_size()
        table[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        start = end
    head = json.dumps(table, ensure_ascii=False).encode()
    head += b" " * (-len(head) % _ALIGNMENT)
    parts = [len(head).to_bytes(_LENGTH_BYTES, "little"), head]
    parts += [tensor.reshape(-1).view(torch.uint8).numpy().data for tensor in tensors.values()]
    native.write_atomically(Path(path), parts)


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins with these (at least 9) bytes is in this format."""
    length = int.from_bytes(head[:_LENGTH_BYTES], "little")
    return 2 <= length <= _MAX_HEADER and head[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{"


def read_safetensors(path: str | Path) -> dict[str, Any]:
    """Reads such a file.

    Returns:
        Of a file of ours the content that ``native.save_weights`` stores; of others the tensors
        by name.

    Raises:
        ValueError: the file is damaged.
    """
    path = Path(path)
    data = bytearray(path.read_bytes())
    begin = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    try:
        table = json.loads(data[_LENGTH_BYTES:begin])
        metadata = table.pop("__metadata__", {})
        tensors = {name: _tensor(data, begin, entry) for name, entry in table.items()}
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} cannot be read as safetensors ({error}); it is damaged or incomplete, fetch "
            "it again"
        ) from error
    if metadata.get("format") != native.FORMAT:
        return tensors
    return {
        "format": native.FORMAT,
        "format_version": int(metadata["format_version"]),
        "model": tensors,
        "class_names": json.loads(metadata["class_names"]),
        "config": metadata["config"],
    }


def _tensor(data: bytearray, begin: int, entry: Mapping[str, Any]) -> Tensor:
    dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
    start, end = entry["data_offsets"]
    if any(not isinstance(size, int) or size < 0 for size in shape):
        raise ValueError(f"shape {shape}")
    size = math.prod(shape) * dtype.itemsize
    if not 0 <= start <= end <= len(data) - begin or end - start != size:
        raise ValueError(f"{size} bytes at {start}..{end} of {len(data) - begin}")
    if size == 0:
        return torch.empty(shape, dtype=dtype)
    raw = torch.frombuffer(data, dtype=torch.uint8, count=size, offset=begin + start)
    return raw.clone().view(dtype).reshape(shape)
