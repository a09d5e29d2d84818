"""Writes detectors to files: ONNX, and the .pt2 of ``torch.export``."""

import json
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram

from maskrcnn_lib.engine.detector import Detector
from maskrcnn_lib.export.decompositions import decompose
from maskrcnn_lib.export.description import describe
from maskrcnn_lib.export.graph import INPUTS, record

if TYPE_CHECKING:
    from onnx_ir import Model

FORMATS = ("onnx", "pt2")
DESCRIPTION_FILE = "description.json"  # in a .pt2
# Operators that a .pt2 may hold, but for which ONNX has none.
PT2_OPERATORS = ("torchvision::deform_conv2d", "aten::embedding_bag.padding_idx")
# Sides of inputs and outputs that differ from image to image.
_SIDES = {"image": (3, "height", "width"), "original_size": (2,)}


def export_detector(detector: Detector, path: str | Path, *, kind: str) -> Path:
    """Writes a detector to a file that runs without this library.

    Args:
        detector: on the CPU, with layers that are not packed (``build_detector(..., pack=False)``);
            not changed.
        path: the file to write.
        kind: ``"onnx"`` or ``"pt2"``.

    Raises:
        ValueError: an unknown kind, or a model that cannot be exported.
        ImportError: a package for this kind is not installed.
    """
    if kind not in FORMATS:
        raise ValueError(f"format {kind!r} is unknown; choose one of {', '.join(FORMATS)}")
    if kind == "onnx":
        _onnx_operators()  # before the work begins
    write = write_onnx if kind == "onnx" else write_pt2
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    program, description = record(detector), describe(detector)
    # An archive's entries bear the name of the file that it is written to.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        unfinished = Path(folder, path.name)
        write(program, description, unfinished)
        unfinished.replace(path)
    return path


def write_pt2(program: ExportedProgram, description: Mapping[str, Any], path: Path) -> None:
    """Writes a graph as ``torch.export.load`` reads it; its operators are torch's, torchvision's.

    Args:
        program: what ``record`` gave.
        description: what ``describe`` gave; becomes the extra file ``description.json``.
        path: the file to write.
    """
    program = decompose(program, keep=PT2_OPERATORS)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names directories of this machine
    program.example_inputs = None  # pixels of the image that the graph was recorded with
    with warnings.catch_warnings():
        # of weights in channels_last, which are saved all the same
        warnings.filterwarnings("ignore", message="No complete tensor found")
        extra = {DESCRIPTION_FILE: json.dumps(description)}
        torch.export.save(program, path, extra_files=extra)


def write_onnx(program: ExportedProgram, description: Mapping[str, Any], path: Path) -> None:
    """Writes a graph as one ONNX file.

    Args:
        program: what ``record`` gave.
        description: what ``describe`` gave; becomes the model's metadata, each value as JSON.
        path: the file to write.

    Raises:
        ImportError: onnx or onnxscript is not installed.
    """
    operators = _onnx_operators()
    program = decompose(program, keep=operators.ONNX_OPERATORS)
    onnx_program = torch.onnx.export(
        program,
        input_names=INPUTS,
        output_names=list(program.call_spec.out_spec.context),  # keys of a dictionary
        custom_translation_table=operators.translations(),
        dynamo=True,
        verbose=False,
    )
    model = onnx_program.model
    _tidy(model)
    model.metadata_props.update({key: json.dumps(value) for key, value in description.items()})
    onnx_program.save(path)


def _onnx_operators() -> ModuleType:
    """The module of operators in ONNX, whose packages are optional."""
    try:
        from maskrcnn_lib.export import onnx_operators
    except ImportError as error:
        raise ImportError(
            f"ONNX files need further packages: pip install 'maskrcnn_lib[export]' ({error})"
        ) from error
    return onnx_operators


def _tidy(model: "Model") -> None:
    """Leaves of the exporter's notes those that a reader of the file can use.

    Its names of sides stand for formulas over pages, and its notes about nodes name directories of
    this machine.
    """
    import onnx_ir

    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
            value.shape = (
                onnx_ir.Shape(["detections", *value.shape[1:]]) if value.is_graph_output() else None
            )
    for value in model.graph.inputs:
        value.shape = onnx_ir.Shape(_SIDES[value.name])
