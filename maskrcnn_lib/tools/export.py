"""``maskrcnn export``: a detector as a file that runs without this library.

onnx runs in ONNX Runtime and whatever else reads ONNX, pt2 in PyTorch with torchvision. The file
takes images of any size, resized to the network's scale; docs/export.md says how.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
        "--check", metavar="IMAGE", help="compare what file and model find on this image"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code: 1 where file and model disagree."""
    path, detector = export(
        args.output,
        kind=args.format,
        model=args.model,
        config=args.config,
        weights=args.weights,
        overrides=args.opts,
    )
    print(f"wrote {path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0 if args.check is None else _check(path, detector, args.check)


def _check(path: Path, detector: "Detector", image: str) -> int:
    from maskrcnn_lib.data.image_io import read_image
    from maskrcnn_lib.export.agreement import compare, open_file

    agreement = compare(detector, open_file(path), read_image(image))
    print(f"{image}: {agreement}")
    return 0 if agreement.good else 1
