"""``maskrcnn convert-weights``: weights of any known format as a file of another one.

Reads the library's own files, those of maskrcnn-benchmark, Detectron, detectron2, torchvision, D2Go
and mmdetection. Names and layouts are converted (class order, anchor order, epsilon of the norms).
"""

import argparse

from maskrcnn_lib.checkpoint.conversion import convert_weights
from maskrcnn_lib.checkpoint.native import FORMAT
from maskrcnn_lib.config import get_cfg, list_configs
from maskrcnn_lib.config.paths_catalog import ModelCatalog

# Format on the command line: its name, and the conventions that its toolbox runs a model under.
_TARGETS = {
    "native": (FORMAT, None),
    "torchvision": ("torchvision", "torchvision"),
    "detectron2": ("detectron2", "detectron2"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options."""
    parser.add_argument("source", metavar="IN", help="file, catalog name or URL")
    parser.add_argument("target", metavar="OUT", help="file to write: .pth, or native .safetensors")
    parser.add_argument(
        "--to", choices=tuple(_TARGETS), default="native", help="format to write (default: native)"
    )
    parser.add_argument(
        "--config",
        metavar="NAME",
        help="config to store in a native file (default: that of the catalog's entry or of IN)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    name, dialect = _TARGETS[args.to]
    config = args.config or _config_of(args.source)
    text = get_cfg(config, args.opts).dump() if config else ""
    done = convert_weights(args.source, args.target, to=name, config=text)
    print(f"read   {done.source}: {done.weights.format}, {len(done.weights.tensors)} tensors")
    if done.weights.ignored:
        print(f"       {len(done.weights.ignored)} entries are known and not needed in a model")
    print(f"wrote  {args.target}: {name}, {done.count} tensors")
    trained = done.weights.dialect
    if dialect and trained and trained != dialect:
        print(
            f"note   the weights learned under the conventions of {trained}; {dialect} has its own "
            "anchors, RoIAlign and pixel statistics by default, and finds other boxes with them"
        )
    return 0


def _config_of(source: str) -> str:
    """Config of weights that the catalog knows by this name; "" for all others."""
    name = source.removeprefix("catalog://")
    if name not in ModelCatalog.names():
        return ""
    known = (ModelCatalog.entry(name).config, name)
    return next((config for config in known if config in list_configs()), "")
