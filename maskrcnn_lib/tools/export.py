"""``maskrcnn export``: a detector as a file that runs without this library.

onnx runs in ONNX Runtime and whatever else reads ONNX, pt2 in PyTorch with torchvision. The file
takes images of any size, resized to the network's scale; docs/export.md says how.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from maskrcnn_lib.engine.detector import Detector

_FORMATS = ("onnx", "pt2")


def export(
    output: str | Path,
    *,
    kind: str | None = None,
    model: str | None = None,
    config: str | Path | None = None,
    weights: str | Path | None = None,
    overrides: Sequence[Any] = (),
) -> "tuple[Path, Detector]":
    """Writes a detector to a file.

    Args:
        output: the file to write.
        kind: ``"onnx"`` or ``"pt2"``; by default the suffix of ``output``.
        model: name of a published model, which comes with its weights.
        config: config name or file, instead of ``model``.
        weights: path, catalog name or URL; by default those of ``model``, or the config's
            ``MODEL.WEIGHT``.
        overrides: config keys and values, alternating.

    Returns:
        The file, and the detector that it was made of.

    Raises:
        ValueError: an unknown format, or a model that cannot be exported.
        FileNotFoundError: the weights cannot be had.
        ImportError: a package for this format is not installed.
    """
    from maskrcnn_lib.engine.inference import build_detector, choose_model
    from maskrcnn_lib.export.files import export_detector

    kind = kind or Path(output).suffix.removeprefix(".")
    if kind not in _FORMATS:
        raise ValueError(
            f"{output} names no format by its ending: add --format {'|'.join(_FORMATS)}"
        )
    # The graph holds no device; where a user asks for one, what they ask for comes last and wins.
    overrides = ["MODEL.DEVICE", "cpu", *overrides]
    cfg, chosen = choose_model(model=model, config=config, weights=weights, overrides=overrides)
    detector = build_detector(cfg, chosen, pack=False)
    return export_detector(detector, output, kind=kind), detector


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options."""
    parser.add_argument("--format", choices=_FORMATS, help="default: the ending of the output")
    parser.add_argument("--model", metavar="NAME", help="published model, with its weights")
    parser.add_argument(
        "--config-file", "--config", dest="config", metavar="NAME", help="config name or file"
    )
    parser.add_argument("--weights", metavar="W", help="path, catalog name or URL")
    parser.add_argument("--output", "-o", required=True, metavar="FILE", help="file to write")
    parser.add_argument(
        "--check",
        nargs="+",
        default=[],
        metavar="IMAGE",
        help="compare what file and model find on these images; exit code 1 where they disagree",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code: 1 where file and model disagree."""
    from maskrcnn_lib.data.image_io import read_image

    images = {image: read_image(image) for image in args.check}  # before a minute's work
    print("Recording the model as a graph and writing it takes a minute or two.", flush=True)
    start = perf_counter()
    path, detector = export(
        args.output,
        kind=args.format,
        model=args.model,
        config=args.config,
        weights=args.weights,
        overrides=args.opts,
    )
    seconds = perf_counter() - start
    print(f"wrote {path}: {path.stat().st_size / 1e6:.1f} MB, {seconds:.0f} seconds", flush=True)
    good = _agree(path, detector, images) if images else None
    print(_advice(path, checked=good is not None))
    return 1 if good is False else 0


def _agree(path: Path, detector: "Detector", images: "Mapping[str, np.ndarray]") -> bool:
    """Says image by image how far apart the detections are; returns whether they are the same."""
    from maskrcnn_lib.export.agreement import compare, open_file

    opened = open_file(path)
    results = {name: compare(detector, opened, image) for name, image in images.items()}
    for name, result in results.items():
        print(f"{name}: {'same' if result.good else 'NOT THE SAME'}: {result}")
    return all(result.good for result in results.values())


def _advice(path: Path, *, checked: bool) -> str:
    """How to run the file, and to compare it."""
    if path.suffix == ".onnx":
        how = f"python demo/onnx_detect.py {path} IMAGE (ONNX Runtime, NumPy and Pillow are enough)"
    else:
        how = f'torch.export.load("{path}").module(), after import torchvision'
    check = "" if checked else "\nCompare it with the model: --check IMAGE"
    return f"Run it: {how}; docs/export.md says what goes in and comes out.{check}"
