"""``maskrcnn flops``: operations per image and parameters of a model, part by part.

Needs neither weights nor data.
"""

import argparse

from maskrcnn_lib.tools.argument_types import count
from maskrcnn_lib.tools.model_options import add_architecture_arguments

_SIZE = (800, 1344)  # what most images of COCO become under its usual settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to ``parser``; KEY VALUE pairs arrive as ``args.opts``."""
    add_architecture_arguments(parser, required=True)
    parser.add_argument(
        "--size",
        nargs=2,
        type=count,
        default=_SIZE,
        metavar=("H", "W"),
        help="pixels of the image as the network sees it; default: 800 1344",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    from maskrcnn_lib.config import get_cfg
    from maskrcnn_lib.engine.flops import model_cost
    from maskrcnn_lib.evaluation.tables import format_table

    cost = model_cost(get_cfg(args.model or args.config_file, args.opts), *args.size)
    total, parameters = sum(cost.flops.values()), sum(cost.parameters.values())
    rows = [["part", "GFLOP", "%", "parameters"]]
    for part in dict.fromkeys([*cost.flops, *cost.parameters]):
        flops = cost.flops.get(part, 0)
        share = f"{100 * flops / max(total, 1):.1f}"
        rows.append([part, f"{flops / 1e9:.1f}", share, str(cost.parameters.get(part, 0))])
    rows.append(["all", f"{total / 1e9:.1f}", "100.0", str(parameters)])
    print(format_table(rows))
    print(
        f"one image of {args.size[0]} x {args.size[1]}, {cost.found} objects found; a "
        "multiplication and an addition are two operations"
    )
    return 0
