"""``maskrcnn anchors``: anchor sizes and aspect ratios that fit the objects of a data set.

Data sets are catalog names or "coco:ANNOTATIONS.json:IMAGE_DIR"; by default those of the config.
Objects are measured at the scale of `INPUT.MIN_SIZE_TEST` and `MAX_SIZE_TEST`. The last line is
what to write at the end of a command.
"""

import argparse
from typing import TYPE_CHECKING, Any

from maskrcnn_lib.tools.argument_types import count

if TYPE_CHECKING:
    import numpy as np

_ENOUGH = (0.5, 0.7)  # overlaps; at the second an RPN takes an anchor for an object


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to ``parser``; KEY VALUE pairs arrive as ``args.opts``."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets")
    parser.add_argument("--config-file", metavar="F", help="config file or name")
    parser.add_argument(
        "--sizes", type=count, metavar="N", help="how many sizes; default: as the config has"
    )
    parser.add_argument(
        "--ratios", type=count, metavar="N", help="how many ratios; default: as the config has"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    import numpy as np

    from maskrcnn_lib.config import get_cfg
    from maskrcnn_lib.config.architecture import is_one_stage
    from maskrcnn_lib.data.anchor_shapes import fit_anchors

    cfg = get_cfg(args.config_file, args.opts)
    if is_one_stage(cfg):
        raise ValueError("anchors are fitted for an RPN; this config's model has none")
    rpn = cfg.MODEL.RPN
    known = np.hstack(rpn.ANCHOR_SIZES), np.array(rpn.ASPECT_RATIOS)
    count, levels = args.sizes or len(known[0]), len(rpn.ANCHOR_STRIDE)
    if count % levels:
        raise ValueError(f"--sizes {count} cannot be shared out to the {levels} levels of the RPN")
    shapes = _shapes(cfg, args.names or cfg.DATASETS.TRAIN)
    sizes, ratios = fit_anchors(shapes, sizes=count, ratios=args.ratios or len(known[1]))
    sizes, ratios = np.round(sizes), np.round(ratios, 2)
    print(f"{len(shapes)} objects")
    print(_fit("the config's", shapes, *known))
    print(_fit("fitted", shapes, sizes, ratios))
    whole = tuple(map(int, sizes))
    per_level = tuple(
        whole[start : start + count // levels] for start in range(0, count, count // levels)
    )
    keys = {
        "ANCHOR_SIZES": per_level if rpn.USE_FPN else whole,
        "ASPECT_RATIOS": tuple(ratios.tolist()),
    }
    print(" ".join(f'MODEL.RPN.{key} "{value}"' for key, value in keys.items()))
    return 0


def _shapes(cfg: Any, names: Any) -> "np.ndarray":
    """(N, 2) widths and heights of the objects of all data sets."""
    import numpy as np

    from maskrcnn_lib.config.dialects import get_dialect
    from maskrcnn_lib.data.anchor_shapes import object_shapes
    from maskrcnn_lib.data.datasets import build_dataset

    if not names:
        raise ValueError("no data set: name one, or give --config-file")
    scale = {"min_size": cfg.INPUT.MIN_SIZE_TEST, "max_size": cfg.INPUT.MAX_SIZE_TEST}
    scale["rule"] = get_dialect(cfg.MODEL.DIALECT).output_size
    datasets = [build_dataset(cfg, name, is_train=True) for name in names]
    shapes = np.concatenate([object_shapes(dataset, **scale) for dataset in datasets])
    if not len(shapes):
        raise ValueError(f"no object in {', '.join(names)}")
    return shapes


def _fit(name: str, shapes: "np.ndarray", sizes: "np.ndarray", ratios: "np.ndarray") -> str:
    from maskrcnn_lib.data.anchor_shapes import best_overlaps

    best = best_overlaps(shapes, sizes, ratios)
    shares = ", ".join(f"{100 * (best >= t).mean():.1f} % overlap {t} or more" for t in _ENOUGH)
    shown = f"{[round(float(s)) for s in sizes]}, ratios {[round(float(r), 2) for r in ratios]}"
    return f"{name} {shown}: mean overlap of the best {best.mean():.3f}; {shares}"
