"""From a file of weights of any known format to one of another format."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_lib.checkpoint import native
from maskrcnn_lib.checkpoint.download import resolve_weights
from maskrcnn_lib.checkpoint.exporters import export_weights
from maskrcnn_lib.checkpoint.files import read_checkpoint
from maskrcnn_lib.checkpoint.importers import ImportedWeights, detectron2, torchvision
from maskrcnn_lib.checkpoint.loading import import_content
from maskrcnn_lib.checkpoint.safetensors import save_safetensors

_SAFETENSORS = ".safetensors"


@dataclass(frozen=True)
class Conversion:
    """What became of a file.

    Attributes:
        weights: what was read, in native names.
        count: number of tensors that were written.
        source: the file that was read.
    """

    weights: ImportedWeights
    count: int
    source: Path


def convert_weights(
    source: str | Path, target: str | Path, *, to: str = native.FORMAT, config: str = ""
) -> Conversion:
    """Writes the weights of a whole detector in another format.

    Args:
        source: a file, or the name of weights in the catalog or their URL; any known format.
        target: the file to write, which appears whole or not at all: a ``torch.save`` of plain
            tensors, or of native weights also ``.safetensors``.
        to: a format of ``exporters.FORMATS``.
        config: resolved configuration as YAML, for native files; "" keeps that of a native source.

    Raises:
        FileNotFoundError: the source cannot be found or fetched.
        ValueError: its format is not known, it is no whole model of a kind that the other format
            has, or the name of the target fits another format.
    """
    path, target = resolve_weights(source), Path(target)
    if target.suffix == _SAFETENSORS and to != native.FORMAT:
        raise ValueError(f"{to} reads no {_SAFETENSORS}; call the file {target.stem}.pth")
    content = read_checkpoint(path)
    weights = import_content(content, source=str(path))
    if weights.unmapped:
        raise ValueError(
            f"{path} (format {weights.format}) holds tensors that have no place in a model of this "
            f"library, nothing was written: {', '.join(weights.unmapped)}"
        )
    tensors = export_weights(weights, to)
    if to == native.FORMAT:
        metadata: dict[str, Any] = {
            "class_names": weights.class_names,
            "config": config or _stored_config(content),
        }
        save = save_safetensors if target.suffix == _SAFETENSORS else native.save_weights
        save(tensors, target, **metadata)
    elif to == detectron2.FORMAT:
        native.write_atomically(target, {"model": tensors})
    else:
        assert to == torchvision.FORMAT
        native.write_atomically(target, tensors)
    return Conversion(weights, len(tensors), path)


def _stored_config(content: Mapping[str, Any]) -> str:
    return content.get("config", "") if native.is_native(content) else ""
