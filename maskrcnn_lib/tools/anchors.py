"""``maskrcnn anchors``: anchor sizes and aspect ratios that fit the objects of a data set.

Data sets are catalog names or "coco:ANNOTATIONS.json:IMAGE_DIR"; by default those of the config.
Objects are measured at the scale of `INPUT.MIN_SIZE_TEST` and `MAX_SIZE_TEST`. The last line is
what to write at the end of a command.
"""

import argparse
from dataclasses import dataclass
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
    from maskrcnn_lib.data.anchor_shapes import fit_anchors, scaled

    cfg = get_cfg(args.config_file, args.opts)
    anchors = _anchors(cfg)
    count = anchors.check_sizes(args.sizes or len(anchors.sizes))
    ratios = anchors.check_ratios(args.ratios)
    shapes = _shapes(cfg, args.names or cfg.DATASETS.TRAIN)
    fitted = fit_anchors(shapes, sizes=count, ratios=ratios, scales=anchors.scales)
    fitted = np.round(fitted[0]), np.round(fitted[1], 2)
    print(f"{len(shapes)} objects")
    for name, (sizes, shown) in (
        ("the config's", (anchors.sizes, anchors.ratios)),
        ("fitted", fitted),
    ):
        print(_fit(name, shapes, scaled(sizes, anchors.scales), shown))
    keys = anchors.keys(*fitted)
    print(" ".join(f'MODEL.{anchors.section}.{key} "{value}"' for key, value in keys.items()))
    return 0


@dataclass(frozen=True)
class _Anchors:
    """What a config says of the anchors.

    Attributes:
        section: of MODEL that says it.
        sizes, ratios: (S,) and (R,) float64.
        scales: by which each size is multiplied.
        levels: maps of features with anchors.
        by_level: whether the sizes are given by level, as tuples in a tuple.
    """

    section: str
    sizes: "np.ndarray"
    ratios: "np.ndarray"
    scales: tuple[float, ...] = (1.0,)
    levels: int = 1
    by_level: bool = False

    def check_sizes(self, count: int) -> int:
        """Raises ValueError where the levels cannot have so many sizes."""
        if self.section == "RETINANET" and count != self.levels:
            raise ValueError(f"--sizes {count}: RetinaNet has one size for each of its levels")
        if count % self.levels:
            raise ValueError(
                f"--sizes {count} cannot be shared out to the {self.levels} levels of the model"
            )
        return count

    def check_ratios(self, count: int | None) -> "int | np.ndarray":
        """How many ratios are looked for, or those that cannot be chosen."""
        if self.section != "YOLOF":
            return count or len(self.ratios)
        if count is not None:
            raise ValueError("--ratios: YOLOF's anchors are square")
        return self.ratios

    def keys(self, sizes: "np.ndarray", ratios: "np.ndarray") -> dict[str, Any]:
        """Config keys of the section, and their values."""
        whole = tuple(map(int, sizes))
        step = len(whole) // self.levels
        per_level = tuple(whole[i : i + step] for i in range(0, len(whole), step))
        keys = {"ANCHOR_SIZES": per_level if self.by_level else whole}
        square = {} if self.section == "YOLOF" else {"ASPECT_RATIOS": tuple(ratios.tolist())}
        return keys | square


def _anchors(cfg: Any) -> _Anchors:
    import numpy as np

    from maskrcnn_lib.config.architecture import architecture

    kind = architecture(cfg)
    if kind == "YOLOF":
        return _Anchors("YOLOF", np.array(cfg.MODEL.YOLOF.ANCHOR_SIZES, float), np.ones(1))
    section = "RETINANET" if kind == "RetinaNet" else "RPN"
    keys = cfg.MODEL[section]
    sizes, ratios = np.hstack(keys.ANCHOR_SIZES).astype(float), np.array(keys.ASPECT_RATIOS, float)
    if section == "RPN":
        return _Anchors(
            section, sizes, ratios, levels=len(keys.ANCHOR_STRIDE), by_level=keys.USE_FPN
        )
    count = keys.SCALES_PER_OCTAVE
    scales = tuple(keys.OCTAVE ** (scale / count) for scale in range(count))
    return _Anchors(section, sizes, ratios, scales, levels=len(keys.ANCHOR_STRIDES))


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
